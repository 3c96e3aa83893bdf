"""Muon: its step against torch's and against singular values, what it moves, and going on after a stop."""

import pytest
import torch
from small_runs import moved, small, stopped_and_gone_on_with
from torch import nn

from pipeline.backbones import build_for
from pipeline.errors import TrainingError
from pipeline.settings.load import load as load_settings
from pipeline.stage1_backbone import train_backbone
from pipeline.training.muon import Muon, orthogonal
from pipeline.training.optimizer import Optimizer, matrices_of

STEP = {"optimizer": "muon", "amp": "off", "mixing": "none", "batch_size": 100, "warmup_epochs": 0, "epochs": 1}


@pytest.mark.parametrize("shape", [(2, 16, 40), (1, 40, 16), (3, 8, 8)])
def test_singular_vectors_stay_and_values_go_through_the_polynomial(shape):
    matrix_KRC = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 7
    u, value_KS, v = torch.linalg.svd(matrix_KRC.double(), full_matrices=False)
    value_KS = value_KS / value_KS.square().sum(dim=1, keepdim=True).sqrt()
    for _ in range(5):
        value_KS = 3.4445 * value_KS - 4.7750 * value_KS**3 + 2.0315 * value_KS**5
    wanted = u * value_KS[:, None] @ v
    torch.testing.assert_close(orthogonal(matrix_KRC).double(), wanted, rtol=0, atol=2e-4)
    assert float(value_KS.min()) > 0.5
    assert float(value_KS.max()) < 1.25


def test_a_gradient_of_zeros_gives_zeros():
    assert torch.equal(orthogonal(torch.zeros(1, 3, 5)), torch.zeros(1, 3, 5))


def test_a_step_is_torch_s_of_matrices():
    random = torch.Generator().manual_seed(1)
    shapes = [(16, 8, 3, 3), (40, 10), (16, 8, 3, 3), (5, 30)]
    weights = [nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]
    matrices = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in weights]
    ours = Muon(weights, 0.1, 0.9, 0.3)
    theirs = torch.optim.Muon(matrices, lr=0.1, momentum=0.9, weight_decay=0.3)
    for _ in range(3):
        before = [weight.detach().clone() for weight in weights]
        for weight, matrix in zip(weights, matrices, strict=True):
            weight.grad = torch.randn(weight.shape, generator=random)
            matrix.grad = weight.grad.flatten(1).clone()
        ours.step()
        theirs.step()
        for weight, matrix, was in zip(weights, matrices, before, strict=True):
            # Theirs multiplies in bf16, which has three digits.
            assert (weight.flatten(1) - matrix).norm() < 0.03 * (weight - was).norm()


def test_matrices_are_those_of_layers_over_all_channels():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 4), nn.LayerNorm(4)
    )
    network.register_parameter("position", nn.Parameter(torch.zeros(1, 5, 4)))
    assert [tuple(weight.shape) for weight in matrices_of(network)] == [(8, 3, 3, 3), (4, 8)]


def _moved(**stage1):
    return moved(small(**{**STEP, **stage1}))


def test_only_the_backbone_s_matrices_heed_muon_s_rate():
    one, twice = (_moved(muon_rate=rate, muon_decay=0.0) for rate in (0.01, 0.02))
    names = {name for name, step in one.items() if name.startswith("backbone.") and step.dim() > 1}
    assert names
    for name, step in one.items():
        torch.testing.assert_close(twice[name], (2 if name in names else 1) * step, rtol=1e-3, atol=1e-6)
        if name in names:  # a first step's momentum is the gradient, so its size is that of an orthogonal matrix
            rows, columns = step.flatten(1).shape
            size = 0.01 * max(1, rows / columns) ** 0.5 * min(rows, columns) ** 0.5
            assert 0.5 * size < float(step.norm()) < 1.3 * size


def test_a_body_factor_slows_muon_too():
    whole, tenth = _moved(), _moved(body_factor=0.1)
    for name, step in whole.items():
        factor = 0.1 if name.startswith("backbone.") else 1.0
        torch.testing.assert_close(tenth[name], factor * step, rtol=1e-2, atol=1e-5)


def test_sgd_without_momentum_may_go_with_muon():
    assert all(step.isfinite().all() for step in _moved(momentum=0.0).values())


def test_a_loss_that_diverges_names_both_rates():
    with pytest.raises(TrainingError, match=r"; lower stage1\.learning_rate, .* Muon's rate is stage1\.muon_rate"):
        _moved(epochs=1, batch_size=10, learning_rate=1e30)


def test_layers_that_share_a_weight_are_one():
    first, second = nn.Linear(3, 3), nn.Linear(3, 3)
    second.weight = first.weight
    (found,) = matrices_of(nn.Sequential(first, second))
    assert found is first.weight


def test_an_overflow_in_one_gradient_stops_all():
    settings = small(**STEP)
    model = build_for(settings, 10)
    optimizer = Optimizer(model, settings.stage1)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    matrices_of(model.backbone)[0].grad.view(-1)[0] = torch.inf
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    scaler.scale(torch.zeros(()))
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 1.0
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_stopped_and_gone_on_with_gives_the_same_weights(tmp_path, monkeypatch):
    settings = small(epochs=2, optimizer="muon")
    whole = train_backbone(settings, tmp_path / "whole").digest
    assert stopped_and_gone_on_with(settings, tmp_path / "stopped", monkeypatch) == whole


def test_the_method_by_name_and_older_keys():
    stage1 = load_settings("cifar100-lt+muon").settings.stage1
    assert (stage1.optimizer, stage1.schedule, stage1.warmup_epochs) == ("muon", "cosine", 1)
    assert stage1.keyed()["optimizer"] == "muon"
    assert not {"optimizer", "muon_rate", "muon_decay"} & small().stage1.keyed().keys()
