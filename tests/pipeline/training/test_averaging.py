"""SAM's step and averaged weights, by hand."""

import pytest
import torch
from torch import nn

from pipeline.settings.stage1 import Stage1
from pipeline.training.averaging import Average
from pipeline.training.sam import climbed


def test_sam_climbs_rho_along_the_gradient_and_comes_back_to_the_bit():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    x, y = torch.randn(8, 3), torch.randint(2, (8,))
    nn.functional.cross_entropy(model(x), y).backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    with climbed(model, 0.05):
        moved = torch.cat([p.detach().flatten() for p in model.parameters()])
        torch.testing.assert_close(moved - flat, 0.05 * gradient / gradient.norm(), rtol=1e-3, atol=1e-6)
        assert all(p.grad is None for p in model.parameters())
        nn.functional.cross_entropy(model(x), y).backward()
        wanted = [p.grad.clone() for p in model.parameters()]
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), wanted, strict=True))
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if "num_batches" not in name)
    assert model[1].momentum == 0.1


def _steps(average, model, count):
    seen = []
    for step in range(count):
        with torch.no_grad():
            model.weight.fill_(float(step))
        average.after_step()
        average.after_epoch(step)
        seen.append(float(step))
    return seen


def test_ema_is_the_recursion_written_out():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, Stage1(averaging="ema", ema_decay=0.6, epochs=10))
    wanted = 0.0
    for t, value in enumerate(_steps(average, model, 10)):
        d = 0.0 if t == 0 else min(0.6, (1 + t) / (10 + t))
        wanted = d * wanted + (1 - d) * value
    assert average.put_into_model() is False
    assert model.weight.item() == pytest.approx(wanted)


def test_swa_is_the_mean_of_the_last_fifth_and_wants_new_statistics():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, Stage1(averaging="swa", epochs=10))
    _steps(average, model, 10)
    assert average.put_into_model() is True
    assert model.weight.item() == pytest.approx((8 + 9) / 2)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_an_average_goes_on_from_its_state(kind):
    stage1 = Stage1(averaging=kind, epochs=10, swa_start=0.2)
    whole, stopped = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    first, second = Average(whole, stage1), Average(stopped, stage1)
    _steps(first, whole, 6)
    second.restore(first.state())
    for average, model in ((first, whole), (second, stopped)):
        with torch.no_grad():
            model.weight.fill_(9.0)
        average.after_step()
        average.after_epoch(7)
        average.put_into_model()
    assert torch.equal(whole.weight, stopped.weight)


def test_none_keeps_the_last_step():
    model = nn.Linear(1, 1, bias=False)
    average = Average(model, Stage1())
    _steps(average, model, 3)
    assert average.state() == {}
    assert average.put_into_model() is False
    assert model.weight.item() == 2.0
