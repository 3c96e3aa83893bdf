"""Losses of linear heads against their formulas, row by row."""

import torch

from pipeline.classifiers import weighted
from pipeline.settings.stage3 import Retrain

COUNTS = torch.tensor([90, 30, 9, 3])


def batch():
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 7, 4, generator=g), torch.randint(4, (2, 7), generator=g)


def each_replica(value):
    logits, labels = batch()
    return sum(value(torch.softmax(z, dim=1), z, y.tolist()) for z, y in zip(logits, labels, strict=True))


def test_balanced_softmax_weighs_each_class_by_its_count():
    found = weighted.balanced_softmax(Retrain(), COUNTS)(*batch())

    def value(_p, logits, labels):
        grown = COUNTS * logits.exp()
        return -torch.stack([(grown[i, y] / grown[i].sum()).log() for i, y in enumerate(labels)]).mean()

    torch.testing.assert_close(found, each_replica(value))


def test_class_balanced_weights_are_those_of_the_effective_number():
    found = weighted.class_balanced(Retrain(reweight_beta=0.99), COUNTS)(*batch())
    effective = [(1 - 0.99**n) / (1 - 0.99) for n in COUNTS.tolist()]

    def value(p, _z, labels):
        weights = torch.tensor([1 / effective[y] for y in labels])
        rows = torch.stack([-p[i, y].log() for i, y in enumerate(labels)])
        return (weights * rows).sum() / weights.sum()

    torch.testing.assert_close(found, each_replica(value))


def test_focal_lowers_rows_that_are_right():
    found = weighted.focal(Retrain(focal_gamma=2.0), COUNTS)(*batch())

    def value(p, _z, labels):
        return torch.stack([-((1 - p[i, y]) ** 2) * p[i, y].log() for i, y in enumerate(labels)]).mean()

    torch.testing.assert_close(found, each_replica(value))


def test_a_replica_does_not_change_anothers_gradient():
    logits, labels = batch()
    loss = weighted.class_balanced(Retrain(), COUNTS)
    both = logits.clone().requires_grad_()
    loss(both, labels).backward()
    alone = logits[1:].clone().requires_grad_()
    loss(alone, labels[1:]).backward()
    torch.testing.assert_close(both.grad[1:], alone.grad)
