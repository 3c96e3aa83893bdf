"""How long a head is trained: the settings' epochs, or what held-out rows say."""

import torch

from pipeline.classifiers import budget, linear
from pipeline.features import Features
from pipeline.settings.stage3 import Retrain


def _features(counts, noise=1.0, seed=0, width=4):
    g = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centres = torch.randn(len(counts), width, generator=torch.Generator().manual_seed(9)) * 3
    rows = centres[labels] + noise * torch.randn(len(labels), width, generator=g)
    return Features(rows[None], labels, torch.tensor(counts))


def test_named_epochs_are_taken_as_they_are_and_open_ones_have_a_floor_and_a_ceiling():
    assert budget.steps_of(Retrain(epochs=3, batch_size=10), 25) == 9
    assert budget.steps_of(Retrain(batch_size=128), 455) == budget.FLOOR
    assert budget.steps_of(Retrain(batch_size=128), 100_000) == 10 * 782
    assert budget.steps_of(Retrain(batch_size=1), 10_000_000) == budget.CEILING


def test_held_out_rows_are_a_share_of_each_class_that_can_spare_it():
    train = _features((100, 50, 4, 1))
    fit, held_out = budget.split(train, 0)
    assert held_out.counts_C.tolist() == [20, 10, 0, 0]
    assert (fit.counts_C + held_out.counts_C).tolist() == [100, 50, 4, 1]
    assert sorted([*fit.rows_N.tolist(), *held_out.rows_N.tolist()]) == list(range(155))
    assert budget.split(_features((9, 4, 1)), 0) is None
    assert budget.split(_features((500, 4, 1)), 0) is None


def test_the_search_keeps_the_step_of_the_least_balanced_loss_and_ends_when_nothing_gets_better():
    held_out = _features((30, 10), width=2)
    search = budget.Search(held_out)
    good = linear.LinearHeads(torch.eye(2)[None] * 0.1, torch.zeros(1, 2), torch.ones(1, 2))
    bad = linear.LinearHeads(-torch.eye(2)[None], torch.zeros(1, 2), torch.ones(1, 2))
    steps = 0
    for step in range(1, 10_000):
        steps = step
        if not search(step, good if step < 400 else bad):
            break
    assert 50 <= search.best_step < 400
    assert steps <= 1.25 * max(budget.FLOOR, 2 * search.best_step)
    rows, labels = held_out.features_VND[0], held_out.labels_N
    loss = torch.nn.functional.cross_entropy(0.1 * rows, labels, reduction="none")
    wanted = 0.5 * (loss[labels == 0].mean() + loss[labels == 1].mean())
    torch.testing.assert_close(torch.tensor(search.best_loss), wanted, check_dtype=False)
