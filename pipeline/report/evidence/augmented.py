"""Tail samples as the generator augments them, and how much the transformations of one class's samples differ."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import FeatureCache
from pipeline.augment import Augmentation, augmentation_for, mix, transform
from pipeline.augment.transfer import nearest_heads
from pipeline.comparing.divergence import kl_divergence
from pipeline.features import Features, stage1_classifier, training_rows
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.stg.generator import VARIANCE_FLOOR
from pipeline.stg.statistics import split_statistics
from pipeline.stg.trained import TrainedSTG

SAMPLES_COMPARED = 5
"""Samples of one tail class whose transformations are compared, as in the paper's Table 5."""


@dataclass(frozen=True)
class Tail:
    """The training rows in the coordinates of stages 2 and 3, and the augmentation of the tail's by a generator."""

    train: Features
    augmentation: Augmentation
    settings: Settings
    trained: TrainedSTG
    nearest_N: Tensor
    """The nearest head class of each row, as a class number (N,)."""

    @property
    def classes(self) -> list[int]:
        """Tail classes that have training rows, the smallest first."""
        counts = self.train.counts_C.tolist()
        tail = [c for c, n in enumerate(counts) if n and c not in self.trained.heads]
        return sorted(tail, key=lambda c: (counts[c], c))


@dataclass(frozen=True)
class SampleTransformations:
    """Samples of one tail class: their nearest head classes, and KL(i || j) in nats, (S, S), between their transformations."""

    tail_class: int
    rows: tuple[int, ...]
    nearest: tuple[int, ...]
    kl_SS: NDArray[np.float64]


@torch.no_grad()
def tail_of(settings: Settings, cache: FeatureCache, trained: TrainedSTG) -> Tail:
    """The tail of a cache's training rows with the augmentation of stage 3 by this generator."""
    changed = settings.retrain.model_copy(update={"head": "crt", "augmentation": "stg"})
    settings = settings.model_copy(update={"retrain": changed})
    train = training_rows(cache, settings, views=False)
    stage1 = stage1_classifier(cache)
    if stage1 is not None and train.coordinates is not None:
        stage1 = train.coordinates.unfold(*stage1)
    augmentation = augmentation_for(settings, train, stage1, trained)
    nearest_N = nearest_heads(settings.stg.similarity, stage1, train, trained.centroids_HD, trained.heads)
    return Tail(train, augmentation, settings, trained, torch.tensor(trained.heads)[nearest_N])


@torch.no_grad()
def sample_level(tail: Tail, rows_B: Tensor, purpose: str) -> Tensor:
    """Eq. 3 and 4 once for each of these training rows, (B, D): each has the transformation that the generator gives it."""
    assert tail.augmentation.transformations is not None
    features_BD = tail.train.gather(0, rows_B)
    mean_BD, deviation_BD = tail.augmentation.transformations(features_BD, rows_B)
    return _augmented(tail, rows_B, features_BD, mean_BD, deviation_BD.square(), purpose)


@torch.no_grad()
def class_level(tail: Tail, rows_B: Tensor, purpose: str) -> Tensor:
    """The same with one transformation for all samples of a class, (B, D): no shift, and the variance of its own few rows."""
    features_BD = tail.train.gather(0, rows_B)
    labels_B = tail.train.labels_N[rows_B]
    variance_CD = split_statistics(tail.train, len(tail.train.counts_C)).variance_CD
    return _augmented(tail, rows_B, features_BD, torch.zeros_like(features_BD), variance_CD[labels_B], purpose)


def _augmented(
    tail: Tail, rows_B: Tensor, features_BD: Tensor, mean_BD: Tensor, variance_BD: Tensor, purpose: str
) -> Tensor:
    retrain, draw = tail.settings.retrain, generator(tail.settings.seed, "report", purpose)
    strength_B = retrain.strength * tail.augmentation.beta_C[tail.train.labels_N[rows_B]]
    moved_BD = transform(features_BD, mean_BD, variance_BD, strength_B, draw)
    return mix(features_BD, moved_BD, retrain.threshold, draw)


def example_class(tail: Tail) -> int | None:
    """The smallest tail class of at least `SAMPLES_COMPARED` rows, else the largest that has two; None where none has."""
    counts = tail.train.counts_C.tolist()
    large = [c for c in tail.classes if counts[c] >= SAMPLES_COMPARED]
    two = [c for c in tail.classes if counts[c] >= 2]
    return large[0] if large else two[-1] if two else None


@torch.no_grad()
def transformations(tail: Tail, tail_class: int) -> SampleTransformations:
    """Table 5 of the paper: seeded samples of the class, and how far their transformations are from each other."""
    assert tail.augmentation.transformations is not None
    rows_N = (tail.train.labels_N == tail_class).nonzero()[:, 0]
    order_N = torch.randperm(len(rows_N), generator=generator(tail.settings.seed, "report", "samples"))
    rows_S = rows_N[order_N[:SAMPLES_COMPARED]].sort().values
    mean_SD, deviation_SD = tail.augmentation.transformations(tail.train.gather(0, rows_S), rows_S)
    kl_SS = kl_divergence(mean_SD, deviation_SD.square() + VARIANCE_FLOOR).numpy()
    return SampleTransformations(tail_class, tuple(rows_S.tolist()), tuple(tail.nearest_N[rows_S].tolist()), kl_SS)


def some_rows(labels_N: Tensor, classes: list[int], limit: int, seed: int, purpose: str) -> Tensor:
    """At most `limit` seeded rows of each of these classes, sorted."""
    chosen = []
    for c in classes:
        rows_N = (labels_N == c).nonzero()[:, 0]
        order_N = torch.randperm(len(rows_N), generator=generator(seed, "report", purpose, c))
        chosen.append(rows_N[order_N[:limit]])
    return torch.cat(chosen).sort().values if chosen else torch.zeros(0, dtype=torch.long)


def in_coordinates(tail: Tail, features: Features) -> Features:
    """Another split of the cache in the coordinates of the training rows."""
    return replace(features, coordinates=tail.train.coordinates)
