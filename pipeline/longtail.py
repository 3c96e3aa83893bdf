"""Class counts of an imbalance profile, subsampling to them, and the many/medium/few groups. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.settings.stage1 import LongTail
from pipeline.settings.stage2 import STG

Rows = NDArray[np.int64]


def class_counts(n_max: int, classes: int, imbalance_factor: float) -> list[int]:
    """Exponential profile: `int(n_max * IF ** (-c / (C - 1)))` images of class c (Cui et al., 2019), truncated."""
    if classes < 2:
        return [n_max] * classes
    return [int(n_max * (1 / imbalance_factor) ** (c / (classes - 1.0))) for c in range(classes)]


def largest_n_max(available: Sequence[int], imbalance_factor: float) -> int:
    """The largest `n_max` whose profile every class can fill from its `available` images (C)."""
    n_max = available[0]
    while any(n > has for n, has in zip(class_counts(n_max, len(available), imbalance_factor), available, strict=True)):
        n_max -= 1
    return n_max


MANY_ABOVE, FEW_BELOW = 100, 20
"""Many-shot classes have more training rows, few-shot classes fewer (Liu et al., 2019, OLTR)."""


def shot_groups(counts: Sequence[int], many_above: int = 100, few_below: int = 20) -> dict[str, list[int]]:
    """Classes by their training counts (C): many > `many_above`, few < `few_below`, medium between, both ends included."""
    return {
        "many": [c for c, n in enumerate(counts) if n > many_above],
        "medium": [c for c, n in enumerate(counts) if few_below <= n <= many_above],
        "few": [c for c, n in enumerate(counts) if n < few_below],
    }


def group_limits(counts: Sequence[int], many_above: int = 0, few_below: int = 0) -> tuple[int, int]:
    """(many_above, few_below) for `shot_groups`; 0 asks for the field's 100 and 20.

    Where no class has more than 100 rows, those would call every class medium or few: 0 then asks for limits at the thirds of
    the classes by size. A limit that is given is kept.
    """
    if max(counts, default=0) > MANY_ABOVE:
        usual = MANY_ABOVE, FEW_BELOW
    else:
        by_size = sorted(counts, reverse=True) or [0]
        third = len(by_size) // 3
        usual = by_size[third], by_size[len(by_size) - 1 - third]
    many = many_above or max(usual[0], few_below - 1)
    return many, few_below or min(usual[1], many + 1)


def groups_with_test_rows(
    train_counts_C: Rows, test_counts_C: Rows, settings: LongTail
) -> tuple[dict[str, int], tuple[int, int]]:
    """How many classes with test rows are many-, medium- and few-shot, and the limits between the groups."""
    counts = train_counts_C.tolist()
    limits = group_limits(counts, settings.many_above, settings.few_below)
    groups = {
        name: sum(bool(test_counts_C[c]) for c in members) for name, members in shot_groups(counts, *limits).items()
    }
    return groups, limits


def draw(labels_N: Rows, counts: Sequence[int], seed: int, how: str = "shuffle") -> Rows:
    """Sorted rows that hold `counts[c]` (C) images of each class c, out of (N,) labels.

    `shuffle`: the first n_c of each class in one seeded shuffle of all rows, so that a class drawn smaller is a subset of
    the same class drawn larger. `cao`: numpy's legacy generator, seeded with 0 whatever `seed` is, shuffles each class's
    rows in turn (Cao et al., 2019); it repeats their CIFAR-LT where rows come in CIFAR's own order.

    Raises DataError where a class has fewer rows than wanted.
    """
    available = np.bincount(labels_N, minlength=len(counts))
    for c, (wanted, has) in enumerate(zip(counts, available, strict=True)):
        if wanted > has:
            raise DataError(f"class {c}: wanted {wanted} images, found {has}")
    if how == "cao":
        return _draw_cao(labels_N, counts)
    shuffled_N = np.random.default_rng(seed).permutation(len(labels_N))
    kept = [shuffled_N[labels_N[shuffled_N] == c][:n] for c, n in enumerate(counts)]
    return np.sort(np.concatenate(kept))


def _draw_cao(labels_N: Rows, counts: Sequence[int]) -> Rows:
    legacy = np.random.RandomState(0)
    kept = []
    for c, n in enumerate(counts):
        rows = np.flatnonzero(labels_N == c)
        legacy.shuffle(rows)
        kept.append(rows[:n])
    return np.sort(np.concatenate(kept))


def hold_out(labels_N: Rows, share: float, seed: int, singles_stay: bool = False) -> tuple[Rows, Rows]:
    """Sorted rows kept and sorted rows held out: `share` of each class, rounded, at least one row on either side.

    A class with a single row is kept whole where `singles_stay`; else it raises DataError.
    """
    shuffled_N = np.random.default_rng(seed).permutation(len(labels_N))
    held = []
    for c in np.unique(labels_N):
        rows = shuffled_N[labels_N[shuffled_N] == c]
        if len(rows) < 2 and singles_stay:
            continue
        if len(rows) < 2:
            raise DataError(f"class {c}: wanted at least 2 images to hold one out, found {len(rows)}")
        held.append(rows[: min(max(round(share * len(rows)), 1), len(rows) - 1)])
    held_out = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *held]))
    return np.setdiff1d(np.arange(len(labels_N)), held_out), held_out


def evenly_spaced(rows: int, count: int) -> Rows:
    """At most `count` of the rows 0 … `rows` - 1, ascending and evenly over all; the last is among them where `count` > 1."""
    return np.unique(np.linspace(0, rows - 1, count).astype(np.int64)) if rows else np.empty(0, dtype=np.int64)


def head_classes(counts_C: list[int], settings: STG) -> list[int]:
    """Indices of the head classes by training counts, ascending.

    Count > `head_above`; where that covers no class, or more than `head_share_limit` of them, the largest `head_share`;
    or the `head_classes` largest. Ties go to the lower index.
    Raises DataError where every class would be head.
    """
    by_size = sorted(range(len(counts_C)), key=lambda c: (-counts_C[c], c))
    chosen = by_size[: settings.head_classes]
    if not settings.head_classes:
        chosen = [c for c in by_size if counts_C[c] > settings.head_above]
        if not chosen or len(chosen) > settings.head_share_limit * len(counts_C):
            chosen = by_size[: max(1, round(settings.head_share * len(counts_C)))]
    if len(chosen) == len(counts_C):
        raise DataError(
            f"no tail class: all {len(counts_C)} classes are head classes, so nothing would be augmented; "
            "raise stg.head_above or set stg.head_classes to fewer"
        )
    return sorted(chosen)
