"""Transformations of tail samples in stage 3: from the trained generator, or in closed form."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.features import Features, take
from pipeline.stg import ClassStatistics, SemanticTransformationGenerator

TABLE_LIMIT = 256 << 20
"""Bytes of precomputed transformations; above it the generator runs at each step."""

Transformations = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(features (..., D), flat row index (...)) -> mean and standard deviation (..., D); flat = view * N + row."""


def from_closed_form(head_index_F: Tensor, statistics: ClassStatistics) -> Transformations:
    """mean_h - a and Var_h of each row's nearest head class; `head_index_F` holds one entry a flat row."""

    deviation_HD = statistics.variance_CD.sqrt()

    def transformations(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        head_index = head_index_F[index]
        return take(statistics.mean_CD, head_index) - features, take(deviation_HD, head_index)

    return transformations


def from_generator(
    stg: SemanticTransformationGenerator, features: Features, head_index_F: Tensor, augmented_N: Tensor
) -> Transformations:
    """The generator's output for each augmented row, (N,) bool.

    In eval mode on frozen features it is a fixed function of the row, so it is computed once and gathered afterwards.
    """
    stg = stg.eval()
    views, rows, width = features.features_VND.shape
    wanted_F = augmented_N.repeat(views).nonzero()[:, 0]
    if len(wanted_F) * width * 8 > TABLE_LIMIT:
        return _live(stg, head_index_F)
    position_F = torch.zeros(views * rows, dtype=torch.long)
    position_F[wanted_F] = torch.arange(len(wanted_F))
    mean_TD, deviation_TD = torch.empty(len(wanted_F), width), torch.empty(len(wanted_F), width)
    with torch.no_grad():
        for start in range(0, len(wanted_F), 8192):
            index = wanted_F[start : start + 8192]
            mean_BD, variance_BD = stg(features.gather(index // rows, index % rows), head_index_F[index])
            mean_TD[start : start + 8192], deviation_TD[start : start + 8192] = mean_BD, variance_BD.sqrt()

    def transformations(_features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        # Rows that are not augmented point at entry 0; their strength is 0.
        where = position_F[index]
        return take(mean_TD, where), take(deviation_TD, where)

    return transformations


def _live(stg: SemanticTransformationGenerator, head_index_F: Tensor) -> Transformations:
    @torch.no_grad()
    def transformations(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = stg(features.flatten(0, -2), head_index_F[index.flatten()])
        return mean.view_as(features), variance.sqrt().view_as(features)

    return transformations
