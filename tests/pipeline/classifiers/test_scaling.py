"""Vector scaling against a general optimiser, and its folding."""

import pytest
import torch
from scipy.optimize import minimize

from pipeline.classifiers.scaling import fit_scaling, scaled


def logits(rows: int = 90, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    labels = (torch.rand(rows, generator=g).square() * classes).long()
    given = torch.randn(rows, classes, generator=g) + 2 * torch.nn.functional.one_hot(labels, classes)
    return given - torch.tensor([0.0, 2.0, 4.0]), labels


def test_it_finds_the_minimum_that_scipy_finds():
    given, labels = logits()
    norms = torch.tensor([3.0, 2.0, 1.0])
    weight = 1 / torch.bincount(labels).double()[labels] / 3

    def loss(values):
        scale, shift = torch.from_numpy(values).view(2, 3)
        log = ((1 + scale) * given.double() + float(given.double().std()) * shift * norms / 2).log_softmax(dim=1)
        return -float((weight * log[torch.arange(90), labels]).sum()) + 0.01 * float((values**2).sum()) / 3

    wanted = torch.from_numpy(minimize(loss, torch.zeros(6).double().numpy(), tol=1e-10).x).view(2, 3)
    scale, shift = fit_scaling(given, labels, norms)
    torch.testing.assert_close(scale.double() - 1, wanted[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(shift.double() * 2 / float(given.std()), wanted[1], rtol=0, atol=2e-3)


def test_it_lifts_a_class_that_was_held_down_and_folds():
    given, labels = logits()
    weight, bias = torch.randn(3, 5), torch.randn(3)
    scale, shift = fit_scaling(given, labels, weight.norm(dim=1))
    moved = scale * given + shift * weight.norm(dim=1)
    rare = labels == 2
    assert float((moved.argmax(dim=1) == labels)[rare].double().mean()) > float(
        (given.argmax(dim=1) == labels)[rare].double().mean()
    )
    features = torch.randn(7, 5)
    folded_weight, folded_bias = scaled(weight, bias, scale, shift)
    wanted = scale * (features @ weight.T + bias) + shift * weight.norm(dim=1)
    torch.testing.assert_close(features @ folded_weight.T + folded_bias, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", ["one row", "a class unknown", "equal logits", "no weights"])
def test_hard_data_is_defined(case):
    given, labels = logits()
    norms = torch.zeros(3) if case == "no weights" else torch.ones(3)
    if case == "one row":
        given, labels = given[:1], labels[:1]
    if case == "a class unknown":
        given[:, 1] = -torch.inf
    if case == "equal logits":
        given = torch.ones_like(given)
    scale, shift = fit_scaling(given, labels, norms)
    assert bool(torch.isfinite(scale).all() and torch.isfinite(shift).all())
    if case == "a class unknown":
        assert (float(scale[1]), float(shift[1])) == (1.0, 0.0)
