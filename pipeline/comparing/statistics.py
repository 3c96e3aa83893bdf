"""Is the difference between two classifiers noise? Intervals, exact p-values, corrections for many arms. Pure, numpy.

All of them compare by row: two classifiers see the same test rows, so what matters is where one is right and the other is not.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
REPLICATES = 2000
"""Bootstrap draws: the ends of a 95 % interval then rest on 50 draws each."""
FLIPS = 20_000
"""Random sign flips where the exact distribution cannot be computed; the smallest p-value is then 1 / 20,001."""
SMALLEST = 1e-12
"""p-values below this are the rounding of the Fourier transform; they are reported as this."""
BLOCK = 1 << 22
"""Numbers drawn at a time, 32 MiB."""


def weights_by_row(labels_N: Integers, metric: str) -> Floats:
    """What each test row counts, (N,), summing to 1: alike (`accuracy`), or alike for each class (`balanced`)."""
    if metric == "accuracy":
        return np.full(len(labels_N), 1 / len(labels_N))
    rows_C = np.bincount(labels_N)
    return 1 / (rows_C[labels_N] * np.count_nonzero(rows_C))


def bootstrap(
    correct: Sequence[NDArray[np.bool_]],
    labels_N: Integers,
    metric: str = "accuracy",
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Floats:
    """Scores of A arms on resampled test rows and resampled seeds, (A, replicates), in percent.

    `correct[a]` is (R_a, N): whether seed r of arm a is right on row n. Every draw takes N rows with replacement, the same for
    all arms (within each class for `balanced`), and R seeds with replacement, the same for all arms that have R. So the
    difference of two arms in one draw is a paired one. An arm of one seed has no spread over seeds.
    """
    random = np.random.default_rng(seed)
    weight_N = weights_by_row(labels_N, metric)
    stacked_TN = np.concatenate([part.astype(np.float32) * weight_N.astype(np.float32) for part in correct])
    ends = np.cumsum([len(part) for part in correct])[:-1]
    scores: list[Floats] = []
    for counts_NB in _resampled(random, labels_N, metric, replicates):
        blocks = np.split(stacked_TN @ counts_NB, ends)
        seeds = {len(part): _seed_shares(random, len(part), counts_NB.shape[1]) for part in correct}
        scores.append(np.stack([(block_RB * seeds[len(block_RB)]).sum(axis=0) for block_RB in blocks]))
    return 100 * np.concatenate(scores, axis=1)


def _resampled(
    random: np.random.Generator, labels_N: Integers, metric: str, replicates: int
) -> Iterator[NDArray[np.float32]]:
    """How often each row is drawn, (N, B) a block of draws at a time."""
    rows = len(labels_N)
    order_N = np.argsort(labels_N, kind="stable")
    sorted_N = labels_N[order_N]
    count_C = np.bincount(labels_N)
    start_C = np.cumsum(count_C) - count_C
    size = max(1, BLOCK // rows)
    for begin in range(0, replicates, size):
        draws = min(size, replicates - begin)
        if metric == "balanced":
            within_BN = (random.random((draws, rows)) * count_C[sorted_N]).astype(np.int64)
            drawn_BN = order_N[start_C[sorted_N] + within_BN]
        else:
            drawn_BN = random.integers(rows, size=(draws, rows))
        flat = (drawn_BN + rows * np.arange(draws)[:, None]).ravel()
        yield np.bincount(flat, minlength=draws * rows).reshape(draws, rows).T.astype(np.float32)


def _seed_shares(random: np.random.Generator, seeds: int, draws: int) -> Floats:
    """The share that each of R seeds has in each draw, (R, B)."""
    drawn_BR = random.integers(seeds, size=(draws, seeds))
    return (drawn_BR[None] == np.arange(seeds)[:, None, None]).mean(axis=2)


def paired_difference(first_RN: NDArray[np.bool_], second_RN: NDArray[np.bool_]) -> Integers:
    """By how many seeds the first is right more often than the second on each row, (N,), whole numbers.

    With R and S seeds these are shares of their least common multiple; a common divisor is taken out.
    """
    common = math.lcm(len(first_RN), len(second_RN))
    first_N = first_RN.sum(axis=0) * (common // len(first_RN))
    difference_N = (first_N - second_RN.sum(axis=0) * (common // len(second_RN))).astype(np.int64)
    return difference_N // max(1, int(np.gcd.reduce(difference_N)))


def exact_p(difference_N: Integers) -> float:
    """Two-sided p-value of the paired permutation test, exact, of whole-number differences by row (N,).

    Under the null hypothesis the two classifiers are exchangeable on each row, so each difference d_n has either sign with
    probability 1/2. The distribution of sum(+-d_n) over all 2^N sign patterns is computed, not sampled: it is the convolution of
    one binomial for each size of |d_n|. For one seed each this is McNemar's exact test. At least SMALLEST.
    """
    from scipy.stats import binom

    sizes, counts = np.unique(np.abs(difference_N[difference_N != 0]), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    total = int((sizes * counts).sum())
    length = 1 << (total + 1).bit_length()
    transform = np.ones(length // 2 + 1, dtype=np.complex128)
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        distribution = np.zeros(length)
        distribution[: size * count + 1 : size] = binom.pmf(np.arange(count + 1), count, 0.5)
        transform *= np.fft.rfft(distribution)
    probability = np.fft.irfft(transform, length)[: total + 1]
    # Positive parts add up to t; the sum of the signed differences is 2 t - total.
    distance = np.abs(2 * np.arange(total + 1) - total)
    observed = abs(int(difference_N.sum()))
    return float(np.clip(probability[distance >= observed].sum(), SMALLEST, 1.0))


def flipped_p(difference_AN: NDArray[np.float64], seed: int = 0) -> list[float]:
    """As `exact_p`, for weighted differences of A pairs (A, N), by FLIPS random sign patterns, the same for all pairs.

    (1 + patterns at least as far out) / (1 + patterns): a valid p-value at any number of patterns.
    """
    random = np.random.default_rng(seed)
    rows = difference_AN.shape[1]
    observed_A = np.abs(difference_AN.sum(axis=1))
    further_A = np.zeros(len(difference_AN))
    size = max(1, BLOCK // rows)
    for begin in range(0, FLIPS, size):
        signs_NB = 2.0 * random.integers(2, size=(rows, min(size, FLIPS - begin)), dtype=np.int8) - 1
        further_A += (np.abs(difference_AN @ signs_NB) >= observed_A[:, None] * (1 - 1e-12)).sum(axis=1)
    return ((1 + further_A) / (1 + FLIPS)).tolist()


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm, 1979): the chance of one false alarm among all stays below the level.

    The k-th smallest of m is multiplied by m - k + 1, and none may be below a smaller one's.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = highest
    return corrected


def mean_ranks(scores_KA: Floats) -> Floats:
    """Mean rank over K data sets of each of A arms, (A,): 1 is best; equal scores share their ranks."""
    from scipy.stats import rankdata

    return rankdata(-scores_KA, axis=1).mean(axis=0)


def critical_difference(arms: int, caches: int, level: float = 0.05) -> float:
    """Nemenyi's critical difference of mean ranks: q sqrt(A (A + 1) / (6 K)) (Demsar, 2006, section 3.2.2).

    q is the upper `level` point of the studentised range of A values with infinite degrees of freedom, over sqrt(2).
    """
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - level, arms, np.inf) / math.sqrt(2)
    return float(q * math.sqrt(arms * (arms + 1) / (6 * caches)))
