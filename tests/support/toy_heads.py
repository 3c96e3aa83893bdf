"""Small problems for heads that are trained: three classes of unequal size, two of them near each other."""

import torch

from pipeline.augment import UNCHANGED
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Step
from pipeline.features import Features
from pipeline.settings.stage3 import Retrain

COUNTS = (60, 20, 6)
WIDTH = 5


def toy_rows(counts=COUNTS, seed=0) -> Features:
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(len(counts), WIDTH, generator=torch.Generator().manual_seed(9))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    features = centres[labels] + torch.randn(len(labels), WIDTH, generator=g)
    return Features(features[None], labels, torch.tensor(counts))


def toy_problem(
    head: str, seeds=(0,), val: Features | None = None, train: Features | None = None, **settings
) -> Problem:
    train = train or toy_rows()
    g = torch.Generator().manual_seed(1)
    classes = len(train.counts_C)
    stage1 = torch.randn(classes, WIDTH, generator=g), torch.randn(classes, generator=g)
    retrain = Retrain(head=head, augmentation="none", start=settings.pop("start", "stage1"), **settings)
    return Problem(retrain, train, list(seeds), stage1, UNCHANGED, False, False, val, "balanced", "toy")


def toy_step(seed=0, rows=16, replicas=2, number=5, of=10, classes=3) -> Step:
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (replicas, rows), generator=g)
    return Step(torch.randn(replicas, rows, WIDTH, generator=g), labels, number, of)
