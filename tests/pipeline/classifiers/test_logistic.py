"""Logistic regression against scikit-learn's; folds and strengths side by side; hard data."""

import re

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from pipeline import progress
from pipeline.classifiers.lbfgs import steps_expected
from pipeline.classifiers.logistic import fit_logistic


def rows(count: int, width: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=g).square() * classes).long()
    return torch.randn(classes, width, generator=g)[labels] + torch.randn(count, width, generator=g), labels


@pytest.mark.parametrize(("count", "width", "classes"), [(200, 6, 4), (40, 60, 5), (60, 1, 3), (80, 5, 2)])
@pytest.mark.parametrize("strength", [0.01, 0.3])
def test_it_finds_the_minimum_that_scikit_learn_finds(count, width, classes, strength):
    features, labels = rows(count, width, classes)
    # Of two classes scikit-learn learns one vector, the difference: its square is twice the sum of the two squares.
    vectors = 2 if classes == 2 else 1
    model = LogisticRegression(C=vectors / (strength * count), tol=1e-10, max_iter=10000)
    model.fit(features.double().numpy(), labels.numpy())
    # At a tolerance of 1e-5 float32's rounding decides whether the last steps are taken.
    fit = fit_logistic(features, labels, classes, [strength], tolerance=3e-5)
    assert bool(fit.converged_FS.all())
    probabilities = (features @ fit.weight_FSCD[0, 0].T + fit.bias_FSC[0, 0]).softmax(dim=1)
    wanted = torch.from_numpy(model.predict_proba(features.double().numpy())).float()
    torch.testing.assert_close(probabilities, wanted, rtol=0, atol=2e-4)


def test_a_strength_and_a_fold_do_not_depend_on_those_beside_them():
    features, labels = rows(120, 5, 4)
    weights = torch.ones(2, 120)
    weights[0, ::3] = 0
    together = fit_logistic(features, labels, 4, [0.01, 0.1], weights, tolerance=1e-5)
    kept = weights[0] > 0
    alone = fit_logistic(features[kept], labels[kept], 4, [0.1], tolerance=1e-5)
    torch.testing.assert_close(together.weight_FSCD[0, 1], alone.weight_FSCD[0, 0], rtol=0, atol=1e-3)
    full = fit_logistic(features, labels, 4, [0.01], tolerance=1e-5)
    torch.testing.assert_close(together.weight_FSCD[1, 0], full.weight_FSCD[0, 0], rtol=0, atol=1e-3)


def test_row_weights_of_balanced_classes_are_scikit_learns():
    features, labels = rows(150, 4, 3)
    counts = torch.bincount(labels, minlength=3)
    fit = fit_logistic(features, labels, 3, [0.05], (1 / counts.float())[labels][None], tolerance=1e-5)
    model = LogisticRegression(C=1 / (0.05 * 150), class_weight="balanced", tol=1e-10, max_iter=10000)
    model.fit(features.double().numpy(), labels.numpy())
    wanted = torch.from_numpy(model.predict_proba(features.double().numpy())).float()
    probabilities = (features @ fit.weight_FSCD[0, 0].T + fit.bias_FSC[0, 0]).softmax(dim=1)
    torch.testing.assert_close(probabilities, wanted, rtol=0, atol=2e-4)


def test_a_search_that_starts_near_ends_at_the_same_minimum_sooner():
    features, labels = rows(300, 8, 4)
    moved = features + 0.2 * torch.randn(4, 8, generator=torch.Generator().manual_seed(3))[labels]
    near = fit_logistic(features, labels, 4, [0.01, 0.1], tolerance=1e-5)
    cold = fit_logistic(moved, labels, 4, [0.01, 0.1], tolerance=1e-4)
    warm = fit_logistic(moved, labels, 4, [0.01, 0.1], tolerance=1e-4, near=near)
    torch.testing.assert_close(warm.weight_FSCD, cold.weight_FSCD, rtol=0, atol=0.02)
    assert warm.steps < cold.steps
    again = fit_logistic(features, labels, 4, [0.1], tolerance=1e-3, near=near.only(1))
    assert again.steps == 1


def test_the_result_is_the_same_bits_each_time():
    features, labels = rows(120, 5, 4)
    first, again = (fit_logistic(features, labels, 4, [0.01, 0.1]) for _ in range(2))
    assert torch.equal(first.weight_FSCD, again.weight_FSCD)


def test_a_class_without_rows_is_never_predicted():
    features, labels = rows(60, 4, 3)
    fit = fit_logistic(features, labels, 5, [0.1])
    assert fit.bias_FSC[0, 0, 3:].tolist() == [-torch.inf, -torch.inf]
    assert bool(torch.isfinite(fit.bias_FSC[..., :3]).all())
    assert bool(torch.isfinite(fit.weight_FSCD).all())


@pytest.mark.parametrize("case", ["constant", "duplicates", "one class", "99 %", "10,000 classes"])
def test_hard_data_is_defined(case):
    features, labels = rows(200, 4, 3)
    classes = 3
    if case == "constant":
        features[:, 1] = 0
    if case == "duplicates":
        features, labels = features[:10].repeat(20, 1), labels[:10].repeat(20)
    if case == "one class":
        labels = torch.zeros_like(labels)
    if case == "99 %":
        labels = torch.zeros_like(labels)
        labels[:2] = torch.tensor([1, 2])
    if case == "10,000 classes":
        features, labels, classes = torch.randn(10000, 3), torch.arange(10000), 10000
    fit = fit_logistic(features, labels, classes, [0.03], limit=20)
    logits = features[:100] @ fit.weight_FSCD[0, 0].T + fit.bias_FSC[0, 0]
    assert not bool(torch.isnan(logits).any())
    assert bool(torch.isfinite(logits.max(dim=1).values).all())


def test_a_long_fit_shows_how_far_it_is(monkeypatch, capsys):
    features, labels = rows(120, 5, 4)
    fit_logistic(features, labels, 4, [0.01])
    assert capsys.readouterr().err == "", "a short fit says nothing"
    monkeypatch.setattr(progress, "EVERY", 0.0)
    fit = fit_logistic(features, labels, 4, [0.01])
    lines = capsys.readouterr().err.splitlines()
    shown = re.compile(
        r"logistic: (\d+)/(\d+) steps, \S+ steps/s, gradient (\S+) times the one that ends it(, \S+ s to go)?"
    )
    found = [shown.fullmatch(line) for line in lines]
    assert [each and int(each[1]) for each in found] == list(range(1, fit.steps + 1))
    assert int(found[-1][2]) == fit.steps
    assert float(found[0][3]) > 1 >= float(found[-1][3])
    assert found[0][4]
    assert not found[-1][4]


@pytest.mark.parametrize(
    ("step", "first", "times", "expected"),
    [
        (10, 100.0, 10.0, 20),
        (3, 8.0, 1.0, 3),
        (3, 8.0, 4.0, 9),
        (1, 8.0, 9.0, 300),
        (1, 8.0, 7.99, 300),
        (5, 0.5, 0.4, 5),
    ],
)
def test_steps_expected_of_the_gradients_fall_so_far(step, first, times, expected):
    assert steps_expected(step, first, times, 300) == expected
