"""Tail samples as the generator augments them."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.augment import mix, transform
from pipeline.augment.tail import Tail
from pipeline.features import Features
from pipeline.rng import generator
from pipeline.stg.statistics import split_statistics


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
