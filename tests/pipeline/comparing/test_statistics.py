"""Statistics of comparisons against enumeration, scipy's own tests and published tables."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipeline.comparing import statistics
from pipeline.comparing.statistics import (
    bootstrap,
    critical_difference,
    exact_p,
    flipped_p,
    holm,
    mean_ranks,
    paired_difference,
    weights_by_row,
)


def _enumerated(difference_N):
    """The share of all 2^N sign patterns whose sum is at least as far from 0."""
    patterns = np.array(list(itertools.product((-1, 1), repeat=len(difference_N))))
    return float((np.abs(patterns @ difference_N) >= abs(difference_N.sum())).mean())


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_p_value_is_that_of_all_sign_patterns(seed):
    difference_N = np.random.default_rng(seed).integers(-3, 5, size=12)
    assert exact_p(difference_N) == pytest.approx(_enumerated(difference_N), abs=1e-12)


@pytest.mark.parametrize(("wins", "losses"), [(20, 5), (5, 5), (1, 0), (300, 240), (7, 8)])
def test_with_one_seed_it_is_mcnemars_exact_test(wins, losses):
    difference_N = np.array([1] * wins + [-1] * losses + [0] * 40)
    assert exact_p(difference_N) == pytest.approx(stats.binomtest(wins, wins + losses).pvalue, abs=1e-12)


def test_no_difference_and_an_overwhelming_one():
    assert exact_p(np.zeros(5, dtype=int)) == 1
    assert exact_p(np.ones(5000, dtype=int)) == statistics.SMALLEST


def test_random_flips_agree_with_the_exact_value():
    difference_AN = np.random.default_rng(1).integers(-2, 3, size=(3, 200))
    for exact, flipped in zip(map(exact_p, difference_AN), flipped_p(difference_AN.astype(float)), strict=True):
        assert flipped == pytest.approx(exact, abs=4 * np.sqrt(exact / statistics.FLIPS) + 1e-3)


def test_differences_by_row_are_whole_numbers_over_all_seeds():
    first_RN = np.array([[1, 1, 0, 0], [1, 0, 0, 1]], dtype=bool)
    second_RN = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    wanted = 6 * (first_RN.mean(axis=0) - second_RN.mean(axis=0))
    assert paired_difference(first_RN, second_RN).tolist() == np.round(wanted).astype(int).tolist()
    assert paired_difference(first_RN[:1], ~first_RN[:1]).tolist() == [1, 1, -1, -1]


def test_holm_is_that_of_the_textbook():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("metric", ["accuracy", "balanced"])
def test_the_bootstraps_spread_is_that_of_theory(metric):
    random = np.random.default_rng(0)
    labels_N = np.repeat([0, 1], [300, 100])
    right_N = random.random(400) < np.where(labels_N == 0, 0.8, 0.4)
    scores_AB = bootstrap([right_N[None], ~right_N[None]], labels_N, metric, replicates=4000)
    share = [right_N[labels_N == c].mean() for c in (0, 1)]
    if metric == "accuracy":
        centre, variance = right_N.mean(), right_N.mean() * (1 - right_N.mean()) / 400
    else:
        centre = np.mean(share)
        variance = sum(p * (1 - p) / n for p, n in zip(share, (300, 100), strict=True)) / 4
    assert scores_AB[0].mean() == pytest.approx(100 * centre, abs=0.2)
    assert scores_AB[0].std() == pytest.approx(100 * np.sqrt(variance), rel=0.08)
    np.testing.assert_allclose(scores_AB.sum(axis=0), 100, atol=1e-3)  # the same rows for both arms


def test_the_bootstrap_draws_seeds_too():
    labels_N = np.zeros(100, dtype=int)
    rights = np.array([np.arange(100) < 40, np.arange(100) < 60])
    one, both = (bootstrap([part], labels_N, replicates=4000)[0] for part in (rights[:1], rights))
    assert one.std() == pytest.approx(100 * np.sqrt(0.4 * 0.6 / 100), rel=0.1)
    # Two seeds 20 points apart: the mean of two draws has a standard deviation of 10 / sqrt(2) besides.
    rows = 100 * np.sqrt(0.24 / 100)
    assert both.std() == pytest.approx(np.sqrt(rows**2 + 50), rel=0.12)


def test_row_weights():
    assert weights_by_row(np.array([0, 0, 0, 2]), "accuracy").tolist() == [0.25] * 4
    assert weights_by_row(np.array([0, 0, 0, 2]), "balanced") == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_mean_ranks_share_ties():
    assert mean_ranks(np.array([[3.0, 1.0, 2.0], [2.0, 2.0, 1.0]])).tolist() == [1.25, 2.25, 2.5]


@pytest.mark.parametrize(("arms", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_demsars_constants(arms, q):
    """Table 5 of Demsar (2006), level 0.05."""
    assert critical_difference(arms, 14) == pytest.approx(q * np.sqrt(arms * (arms + 1) / (6 * 14)), rel=1e-3)
