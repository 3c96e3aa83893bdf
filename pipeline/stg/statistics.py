"""Eq. 1: class statistics, targets, closed form."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.features import Features


@dataclass(frozen=True)
class ClassStatistics:
    """Mean and biased variance of each class's rows, (C, D), and how many rows they come from, (C,)."""

    mean_CD: Tensor
    variance_CD: Tensor
    count_C: Tensor


def class_statistics(features_PD: Tensor, labels_P: Tensor, classes: int) -> ClassStatistics:
    """Statistics of each class among P rows; a class without rows gets mean and variance 0, count 0."""
    return _statistics(lambda: iter([(features_PD.float(), labels_P)]), labels_P, features_PD.shape[1], classes)


def split_statistics(features: Features, classes: int) -> ClassStatistics:
    """Statistics of each class among the clean rows of a split, which are read in blocks."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for rows_B in features.blocks():
            yield features.gather(0, rows_B), features.labels_N[rows_B]

    return _statistics(blocks, features.labels_N, features.width, classes)


def _statistics(
    blocks: Callable[[], Iterator[tuple[Tensor, Tensor]]], labels_P: Tensor, width: int, classes: int
) -> ClassStatistics:
    """Centred passes: a large offset common to all rows does not cancel the variance away."""
    offset_D, mean_CD, variance_CD = torch.zeros(width), torch.zeros(classes, width), torch.zeros(classes, width)
    count_C = torch.bincount(labels_P, minlength=classes)
    divisor_C1 = count_C.clamp(min=1).to(mean_CD.dtype)[:, None]
    for features_BD, _ in blocks():
        offset_D += features_BD.sum(dim=0) / len(labels_P)
    for features_BD, labels_B in blocks():
        mean_CD.index_add_(0, labels_B, features_BD - offset_D)
    mean_CD /= divisor_C1
    for features_BD, labels_B in blocks():
        variance_CD.index_add_(0, labels_B, (features_BD - offset_D - mean_CD[labels_B]).square())
    variance_CD /= divisor_C1
    mean_CD = torch.where(count_C[:, None] > 0, mean_CD + offset_D, 0.0)
    return ClassStatistics(mean_CD, variance_CD, count_C)


def targets(
    features_BD: Tensor, labels_B: Tensor, statistics: ClassStatistics, include_self: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1 from class statistics: (mean_BD, variance_BD, valid_B); rows of a set smaller than 2 are not valid."""
    features_BD = features_BD.float()
    mean_BD = statistics.mean_CD[labels_B] - features_BD
    variance_BD = statistics.variance_CD[labels_B]
    size_B = statistics.count_C[labels_B]
    if include_self:
        return mean_BD, variance_BD, size_B >= 2
    k_B1 = size_B.to(features_BD.dtype)[:, None]
    others_B1 = (k_B1 - 1).clamp(min=1)
    variance_BD = (k_B1 / others_B1) * (variance_BD - mean_BD.square() / others_B1)
    return mean_BD * k_B1 / others_B1, variance_BD.clamp(min=0), size_B >= 3


def transformation_targets(
    features_BD: Tensor, labels_B: Tensor, pool_PD: Tensor, pool_labels_P: Tensor, include_self: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1: mean and variance of the transformations from each sample to its class's rows in the pool.

    (B, D), (B,), (P, D), (P,) -> (mean_BD, variance_BD, valid_B). The pool is batch + memory, so a sample is in its own
    set (`include_self=False` leaves it out). The variance is biased, 1/k; where k < 2 `valid_B` is False.
    """
    if features_BD.shape[0] != labels_B.shape[0] or pool_PD.shape[0] != pool_labels_P.shape[0]:
        raise ValueError("transformation_targets: as many labels as features wanted, in the batch and in the pool")
    classes = int(torch.cat([labels_B, pool_labels_P]).max()) + 1
    return targets(features_BD, labels_B, class_statistics(pool_PD, pool_labels_P, classes), include_self)


def head_statistics(features: Features, heads: list[int]) -> ClassStatistics:
    """Mean and variance of each head class over its rows' clean features, (H, D), in the order of `heads`."""
    statistics = split_statistics(features, len(features.counts_C))
    return ClassStatistics(statistics.mean_CD[heads], statistics.variance_CD[heads], statistics.count_C[heads])


def closed_form(features_BD: Tensor, head_index_B: Tensor, statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Eq. 1 without a network: mean_h - a and Var_h of head class h, (B, D) each."""
    return statistics.mean_CD[head_index_B] - features_BD.float(), statistics.variance_CD[head_index_B]
