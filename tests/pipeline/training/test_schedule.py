"""Learning rates of the paper's schedules."""

import pytest
import torch

from pipeline.settings.stage1 import Stage1
from pipeline.training.schedule import learning_rate

STEPS = 97


def _rate(stage1, epoch, step=0):
    return learning_rate(stage1, epoch * STEPS + step, STEPS)


def test_cifar_schedule_warms_up_and_drops_at_160_and_180():
    cifar = Stage1()
    assert _rate(cifar, 0) == pytest.approx(0.1 / (5 * STEPS))
    assert _rate(cifar, 4, STEPS - 1) == pytest.approx(0.1)
    wanted = {5: 0.1, 159: 0.1, 160: 0.01, 179: 0.01, 180: 0.001, 199: 0.001}
    assert {epoch: round(_rate(cifar, epoch, STEPS - 1), 9) for epoch in wanted} == wanted


def test_milestones_are_shares():
    short = Stage1(epochs=20, warmup_epochs=0)
    assert [round(_rate(short, epoch), 9) for epoch in (0, 15, 16, 17, 18)] == [0.1, 0.1, 0.01, 0.01, 0.001]
    thirds = Stage1(epochs=30, warmup_epochs=0, milestones=(0.3333, 0.6667))
    assert [round(_rate(thirds, epoch), 9) for epoch in (9, 10, 19, 20, 21)] == [0.1, 0.01, 0.01, 0.001, 0.001]


def test_cosine_ends_at_zero():
    cosine = Stage1(epochs=10, schedule="cosine", warmup_epochs=2)
    assert _rate(cosine, 2) == pytest.approx(0.1)
    assert _rate(cosine, 6) == pytest.approx(0.05)
    assert 0 < _rate(cosine, 9, STEPS - 1) < 1e-5


def test_warm_up_may_end_within_an_epoch():
    half = Stage1(warmup_epochs=0.5)
    assert _rate(half, 0, 48) == pytest.approx(0.1)
    assert _rate(half, 0, 47) < 0.1


def test_one_cycle_is_that_of_torch():
    stage1 = Stage1(epochs=4, schedule="one-cycle", learning_rate=0.2)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    # torch counts from the first step to the last, we count shares of a step's start: one step more makes them the same.
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=0.2,
        total_steps=4 * STEPS + 1,
        cycle_momentum=False,
        pct_start=(0.3 * 4 * STEPS + 1) / (4 * STEPS + 1),
    )
    for step in range(4 * STEPS):
        assert learning_rate(stage1, step, STEPS) == pytest.approx(reference.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        reference.step()
