"""Class-balanced and instance sampling."""

import pytest
import torch

from pipeline.samplers import RowSampler


def _draw(labels, sampling, n=20_000):
    return RowSampler(labels, sampling).draw((n,), torch.Generator().manual_seed(0))


def test_balanced_draws_each_class_and_each_of_its_rows_alike():
    labels = torch.tensor([0] * 90 + [2] * 9 + [5])
    rows = _draw(labels, "balanced")
    shares = torch.bincount(labels[rows], minlength=6) / len(rows)
    torch.testing.assert_close(shares, torch.tensor([1, 0, 1, 0, 0, 1]) / 3, atol=0.02, rtol=0)
    within = torch.bincount(rows[labels[rows] == 2], minlength=100)[90:99]
    assert within.min() > 600
    assert within.max() < 900


def test_instance_draws_every_row_alike():
    labels = torch.tensor([0] * 90 + [1] * 10)
    rows = _draw(labels, "instance")
    assert abs(float((labels[rows] == 1).float().mean()) - 0.1) < 0.02
    assert torch.bincount(rows, minlength=100).min() > 100


def test_unsorted_labels_give_rows_of_the_drawn_class():
    labels = torch.tensor([3, 1, 3, 1, 0])
    rows = _draw(labels, "balanced", 300)
    assert set(rows.tolist()) == {0, 1, 2, 3, 4}


def test_unknown_sampling():
    with pytest.raises(ValueError, match="unknown sampling 'x'; wanted balanced, reversed or instance"):
        RowSampler(torch.tensor([0]), "x")
