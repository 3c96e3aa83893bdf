"""Folds, likelihoods with a fitted temperature, and choices, against plain formulas."""

import math

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import balanced_accuracy_score

from pipeline.classifiers import selection


def scores(rows: int = 80, classes: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = (torch.rand(rows, generator=g).square() * classes).long()
    return torch.nn.functional.one_hot(labels, classes) + 0.7 * torch.randn(rows, classes, generator=g), labels


def test_folds_deal_each_class_out_evenly_and_leave_lone_rows_in_training():
    labels = torch.repeat_interleave(torch.arange(5), torch.tensor([23, 7, 2, 1, 4]))
    fold = selection.stratified_folds(labels, 6, 5)
    assert fold[labels == 3].tolist() == [-1]
    assert (fold == -1).sum() == 1
    for c in (0, 1, 2, 4):
        held = torch.bincount(fold[labels == c], minlength=5)
        assert int(held.max() - held.min()) <= 1
    sizes = torch.bincount(fold[fold >= 0], minlength=5)
    assert int(sizes.max() - sizes.min()) <= 1
    assert torch.equal(fold, selection.stratified_folds(labels, 6, 5))
    assert not torch.equal(fold, selection.stratified_folds(labels, 6, 5, seed=1))


@pytest.mark.parametrize("metric", selection.METRICS)
@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e4])
def test_the_temperature_is_the_one_a_search_finds_whatever_the_unit(metric, unit):
    logits, labels = scores()
    weight = selection.row_weights(labels, 4, metric)
    spread = 1 / 82  # of a label, over the classes
    label = torch.nn.functional.one_hot(labels, 4).double()

    def wanted(target: torch.Tensor) -> tuple[float, float]:
        def mean(log_factor: float) -> float:
            log_probability = (logits.double() * math.exp(log_factor)).log_softmax(dim=1)
            return -float((weight[:, None] * target * log_probability).sum())

        least = minimize_scalar(mean, bounds=(-10, 10), method="bounded", options={"xatol": 1e-9})
        return -least.fun, math.exp(-least.x)

    found, temperature = selection.log_likelihoods(unit * logits + 5, labels, weight)
    assert float((weight * found).sum()) == pytest.approx(wanted(label)[0], abs=1e-4)
    assert temperature / unit == pytest.approx(wanted(label * (1 - spread) + spread / 4)[1], rel=0.01)


def test_scores_that_say_nothing_are_as_likely_as_chance():
    labels = torch.arange(8) % 4
    weight = selection.row_weights(labels, 4)
    for said in (torch.zeros(8, 4), torch.full((8, 4), 1e30)):
        found, _ = selection.log_likelihoods(said, labels, weight)
        torch.testing.assert_close(found, torch.full((8,), 0.25, dtype=torch.float64).log())
    wrong = -torch.nn.functional.one_hot(labels, 4).float()
    found, _ = selection.log_likelihoods(wrong, labels, weight)
    assert float(found.mean()) == pytest.approx(-1.386, abs=1e-2)


def test_a_class_unknown_to_a_fold_costs_the_floor_and_not_everything():
    logits, labels = scores()
    logits[:, 0] = -torch.inf
    found, _ = selection.log_likelihoods(logits, labels, selection.row_weights(labels, 4))
    assert set(found[labels == 0].tolist()) == {selection.FLOOR}
    assert bool(torch.isfinite(found).all())


def test_the_likelier_arm_is_chosen_and_says_how_sure():
    logits, labels = scores()
    noisy = logits + 2 * torch.randn(80, 4, generator=torch.Generator().manual_seed(1))
    choice = selection.choose({"noisy": noisy, "clear": logits}, labels, 4)
    assert (choice.arm, choice.runner_up) == ("clear", "noisy")
    assert choice.scores["clear"].accuracy == pytest.approx(100 * balanced_accuracy_score(labels, logits.argmax(dim=1)))
    assert choice.lead == pytest.approx(choice.scores["clear"].likelihood - choice.scores["noisy"].likelihood)
    assert choice.certain
    twin = selection.choose({"clear": logits, "same": logits.clone()}, labels, 4)
    assert twin.arm == "clear"
    assert not twin.certain


def test_accuracy_and_a_prior_over_arms_can_turn_a_choice():
    labels = torch.tensor([0] * 8 + [1] * 2)
    common, rare = torch.zeros(10, 2), torch.zeros(10, 2)
    common[:, 0] = torch.tensor([1.0] * 9 + [0.9])
    rare[:, 1] = torch.tensor([0.0, 0, 0, 0, 0.8, 0.8, 0.8, 0.8, 1, 1])
    arms = {"common": common, "rare": rare}
    assert selection.choose(arms, labels, 2, "balanced").arm == "rare"
    assert selection.choose(arms, labels, 2, "balanced", prior={"common": 5.0}).arm == "common"
    assert selection.choose(arms, labels, 2, "accuracy").scores["common"].accuracy == 80


def test_a_class_of_which_no_row_was_held_out_counts_against_no_arm():
    logits, labels = scores()
    granting = torch.cat([logits, torch.full((80, 1), 3.0)], dim=1)
    choice = selection.choose({"arm": granting}, labels, 5)
    assert choice.scores["arm"] == selection.choose({"arm": logits}, labels, 4).scores["arm"]


def test_rows_held_out_of_no_fold_do_not_count():
    logits, labels = scores()
    logits[:5] = torch.nan
    whole = selection.choose({"arm": logits}, labels, 4)
    part = selection.choose({"arm": logits[5:]}, labels[5:], 4)
    assert whole.scores == part.scores
    with pytest.raises(ValueError, match=r"^choose: no row was held out: every class has a single row$"):
        selection.choose({"arm": torch.full((3, 3), torch.nan)}, torch.arange(3), 3)
    with pytest.raises(ValueError, match=r"^choose: no arms$"):
        selection.choose({}, labels, 4)
    with pytest.raises(ValueError, match=r"^row_weights: unknown metric 'best'; wanted balanced or accuracy$"):
        selection.row_weights(labels, 4, "best")


@pytest.mark.parametrize("count", [10, 1000])
def test_where_every_row_is_right_the_temperature_is_as_sure_as_so_many_rows_allow(count):
    labels = torch.arange(count) % 2
    scores = torch.nn.functional.one_hot(labels, 2).float() * 3
    likelihood, temperature = selection.log_likelihoods(
        scores, labels, torch.full((count,), 1 / count, dtype=torch.float64)
    )
    torch.testing.assert_close(likelihood, torch.zeros(count, dtype=torch.float64), rtol=0, atol=1e-3)
    # Two classes and one margin: p of the wrong one is its share of the spread labels, 1 in 2 (N + 2).
    wanted = 1 - 0.5 / (count + 2)
    assert temperature == pytest.approx(3 / math.log(wanted / (1 - wanted)), rel=1e-3)
