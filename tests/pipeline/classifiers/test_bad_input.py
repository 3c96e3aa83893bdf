"""Rows as nobody wants them, over every head and every augmentation: finite weights, a defined prediction, no warning."""

import warnings

import pytest
import torch

from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers.kinds import KINDS, kind
from pipeline.classifiers.mean_shift import mean_shift
from pipeline.classifiers.problem import Problem
from pipeline.features import Features, Maps
from pipeline.settings import STG, Retrain, Settings
from pipeline.settings.stage3 import AUGMENTATIONS, TRAINED
from pipeline.stg.fit import fit, head_rows
from pipeline.stg.statistics import split_statistics
from pipeline.stg.trained import TrainedSTG

WIDTH = 6
ARMS = [(head, "none") for head in KINDS] + [("crt", name) for name in AUGMENTATIONS]
FAST = {"epochs": 1, "batch_size": 64, "hidden": 16}
STAGE2 = STG(head_classes=1, epochs=1, batch_size=16)


def blobs(counts, width=WIDTH, spread=1.0):
    g = torch.Generator().manual_seed(0)
    counts = torch.tensor(counts)
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return torch.randn(len(counts), width, generator=g)[labels] + spread * torch.randn(
        len(labels), width, generator=g
    ), labels


def constant_columns():
    features, labels = blobs([30, 10, 4])
    features[:, 1], features[:, 2] = 0.0, 1e6
    return features, labels, 3


def all_columns_constant():
    features, labels = blobs([30, 10, 4])
    return torch.full_like(features, 3.0), labels, 3


def duplicate_rows():
    features, labels = blobs([4, 2, 1])
    return features.repeat(12, 1), labels.repeat(12), 3


def more_columns_than_rows():
    return *blobs([12, 5, 2], width=80), 3


def one_column():
    return *blobs([30, 10, 4], width=1), 3


def two_classes():
    return *blobs([30, 5]), 2


def one_class_of_99_percent():
    return *blobs([198, 1, 1]), 3


def single_rows():
    return *blobs([30, 1, 1, 1]), 4


def a_class_without_rows():
    return *blobs([30, 0, 8, 3]), 4


def ten_thousand_classes():
    features, labels = blobs([40, 20, 10, 5, 2, 1])
    return features, labels * 1999, 10_000


CASES = (
    constant_columns, all_columns_constant, duplicate_rows, more_columns_than_rows, one_column, two_classes,
    one_class_of_99_percent, single_rows, a_class_without_rows, ten_thousand_classes,
)  # fmt: skip


def trained_generator(train, classes):
    names = tuple(map(str, range(classes)))
    rows = head_rows(train, names, STAGE2, 0)
    stg, _, _ = fit(rows, STAGE2, 0)
    return TrainedSTG(stg, rows.heads, split_statistics(rows.fit, 1).mean_CD)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize(("head", "augmentation"), ARMS)
def test_any_rows_make_a_classifier_that_predicts(head, augmentation, case):
    features, labels, classes = case()
    counts = torch.bincount(labels, minlength=classes)
    weight = torch.randn(classes, features.shape[1], generator=torch.Generator().manual_seed(1))
    maps = Maps(features[:, :, None].repeat(1, 1, 4), weight, torch.zeros(classes))
    train = Features(features[None], labels, counts, maps=maps).standardised()
    retrain = Retrain(head=head, augmentation=augmentation, **FAST)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained = trained_generator(train, classes) if augmentation == "stg" else None
        settings = Settings(stg=STAGE2, retrain=retrain)
        shift = mean_shift(retrain, train, unseen=True) if augmentation == "transfer" else None
        augment = augmentation_for(settings, train, None, trained, shift) if head in TRAINED else UNCHANGED
        stage1 = (weight, torch.zeros(classes))
        problem = Problem(retrain, train, [0], stage1, augment, True, False, None, "balanced", "toy")
        classifier = kind(head)(problem).folded(train.coordinates)
        scores = classifier.logits(features)[0]
    # A bias of -inf says that a class is never predicted.
    assert all(bool(torch.isfinite(tensor).all()) for name, tensor in classifier.tensors().items() if name != "bias")
    assert not bool(torch.isnan(scores).any())
    predicted = scores.argmax(dim=1)
    assert bool(torch.isfinite(scores.gather(1, predicted[:, None])).all())
    if head not in ("stage1", "logit-adjustment", "tau-norm", "scaling", *TRAINED):
        assert bool((counts[predicted] > 0).all()), "a class without rows is predicted"
