"""Each loss against its formula, written out row by row."""

import math

import pytest
import torch
from torch.nn import functional

from pipeline import losses


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(9, 4, generator=g), torch.randint(4, (9,), generator=g), torch.tensor([50, 20, 8, 2])


def test_label_aware_smoothing(batch):
    logits, labels, counts = batch
    smoothing = losses.smoothing_by_class(counts, head=0.4, tail=0.1)
    wanted = 0.0
    for row, y in zip(logits, labels.tolist(), strict=True):
        nll = -torch.log_softmax(row, dim=0)
        wanted += (1 - smoothing[y]) * nll[y] + smoothing[y] * nll.mean()
    torch.testing.assert_close(losses.label_aware_smoothing(logits, labels, smoothing), wanted / 9)


def test_smoothing_by_class_is_the_concave_form():
    found = losses.smoothing_by_class(torch.tensor([101, 51, 1]), head=0.3, tail=0.1)
    torch.testing.assert_close(found, torch.tensor([0.3, 0.1 + 0.2 * math.sin(math.pi / 4), 0.1]))


def test_smoothing_of_equal_counts_is_the_tails():
    torch.testing.assert_close(losses.smoothing_by_class(torch.tensor([7, 7]), 0.3, 0.1), torch.tensor([0.1, 0.1]))


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal(batch, gamma):
    logits, labels, _ = batch
    p = torch.softmax(logits, dim=1)[range(9), labels]
    torch.testing.assert_close(losses.focal(logits, labels, gamma), (-((1 - p) ** gamma) * p.log()).mean())


def test_ldam(batch):
    logits, labels, counts = batch
    margins = losses.ldam_margins(counts)
    raw = torch.tensor([n**-0.25 for n in counts.tolist()])
    torch.testing.assert_close(margins, 0.5 * raw / raw.max())
    wanted = 0.0
    for row, y in zip(logits, labels.tolist(), strict=True):
        shifted = row.clone()
        shifted[y] -= margins[y]
        wanted -= torch.log_softmax(30 * shifted, dim=0)[y]
    torch.testing.assert_close(losses.ldam(logits, labels, margins), wanted / 9)


def test_balanced_softmax(batch):
    logits, labels, counts = batch
    weighted = counts * logits.exp()
    wanted = -(weighted[range(9), labels] / weighted.sum(dim=1)).log().mean()
    torch.testing.assert_close(losses.balanced_softmax(logits, labels, counts), wanted)


def test_logit_adjusted_at_zero_is_cross_entropy(batch):
    logits, labels, counts = batch
    found = losses.logit_adjusted(logits, labels, counts, tau=0.0)
    torch.testing.assert_close(found, functional.cross_entropy(logits, labels))


@pytest.mark.parametrize("diagonal", [True, False])
def test_isda(batch, diagonal):
    logits, labels, _ = batch
    weight = torch.randn(4, 5)
    root = torch.randn(4, 5, 5)
    full = root @ root.transpose(1, 2)
    if diagonal:
        full = torch.diag_embed(torch.diagonal(full, dim1=1, dim2=2))
    wanted = 0.0
    for row, y in zip(logits, labels.tolist(), strict=True):
        added = torch.stack([(weight[j] - weight[y]) @ full[y] @ (weight[j] - weight[y]) for j in range(4)])
        wanted -= torch.log_softmax(row + 0.25 * added, dim=0)[y]
    covariance = torch.diagonal(full, dim1=1, dim2=2) if diagonal else full
    found = losses.isda(logits, labels, weight, covariance, ratio=0.5, chunk=4)
    torch.testing.assert_close(found, wanted / 9)
