"""Transformations of tail samples in stage 3: from the trained generator, or in closed form."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import DataError
from pipeline.features import Features, take
from pipeline.stg.generator import SemanticTransformationGenerator
from pipeline.stg.soft import SoftGenerator, estimate, lenders
from pipeline.stg.statistics import ClassStatistics, split_statistics
from pipeline.stg.trained import TrainedSTG

TABLE_LIMIT = 1 << 30
"""Bytes that a table of the generator's output may take. Above it the generator runs in each step. For 20,000 rows of the tail
and 2,048 channels the table takes 0.3 GB."""
Transformations = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(features (..., D), flat row index (...)) -> mean and standard deviation (..., D); flat = view * N + row."""


def from_closed_form(head_index_F: Tensor, statistics: ClassStatistics) -> Transformations:
    """mean_h - a and Var_h of one class for each row a. `head_index_F` holds that class's position in `statistics` for every
    stored row of every view, at view * N + row."""

    deviation_HD = statistics.variance_CD.sqrt()

    def transformations(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        head_index = head_index_F[index]
        return take(statistics.mean_CD, head_index).sub_(features), take(deviation_HD, head_index)

    return transformations


def from_generator(
    stg: SemanticTransformationGenerator, features: Features, head_index_F: Tensor, augmented_N: Tensor
) -> Transformations:
    """The generator's output for each augmented row, (N,) bool.

    Features are frozen and the generator is in eval mode, so its output for a row never changes. It is computed once for all
    rows and looked up in each step, unless that table would be larger than TABLE_LIMIT.
    """
    stg = stg.eval()
    views, rows, width = features.features_VND.shape
    augmented_F = features.by_flat(augmented_N)
    wanted_F = augmented_F.nonzero()[:, 0]
    if len(wanted_F) * width * 8 > TABLE_LIMIT:
        return _live(stg, head_index_F, augmented_F)
    position_F = torch.zeros(views * rows, dtype=torch.long)
    position_F[wanted_F] = torch.arange(len(wanted_F))
    mean_TD, deviation_TD = torch.empty(len(wanted_F), width), torch.empty(len(wanted_F), width)
    with torch.no_grad():
        for start in range(0, len(wanted_F), 8192):
            index = wanted_F[start : start + 8192]
            mean_BD, variance_BD = stg(features.gather_flat(index), head_index_F[index])
            mean_TD[start : start + 8192], deviation_TD[start : start + 8192] = mean_BD, variance_BD.sqrt()

    def transformations(_features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        # Rows that are not augmented point at entry 0; their strength is 0.
        where = position_F[index]
        return take(mean_TD, where), take(deviation_TD, where)

    return transformations


def from_mixture(
    train: Features, heads: list[int], statistics: ClassStatistics, trained: TrainedSTG | None
) -> Transformations:
    """m' - a and Sigma' of each row's own class: its statistics as the soft generator estimates them, or in closed form.

    `statistics` are those of the head classes, from which the closed form borrows.
    """
    stg = (
        trained.stg
        if trained
        else SoftGenerator(lenders(statistics.mean_CD, statistics.variance_CD, statistics.count_C))
    )
    assert isinstance(stg, SoftGenerator)
    classes = len(train.counts_C)
    every = split_statistics(train, classes)
    own_C = torch.full((classes,), -1)
    own_C[heads] = torch.arange(len(heads))
    mean_CD, variance_CD = estimate(stg.eval(), every.mean_CD, every.count_C.clamp(min=1), own_C)
    estimated = ClassStatistics(mean_CD, variance_CD, every.count_C)
    return from_closed_form(train.by_flat(train.labels_N), estimated)


def _live(stg: SemanticTransformationGenerator, head_index_F: Tensor, augmented_F: Tensor) -> Transformations:
    """The generator run in each step, on the rows that are augmented; the others get 0, their strength is 0."""

    @torch.no_grad()
    def transformations(features: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        flat_B = index.flatten()
        chosen_K = augmented_F[flat_B].nonzero()[:, 0]
        mean_BD, deviation_BD = features.new_zeros(2, len(flat_B), features.shape[-1])
        if len(chosen_K):
            mean_KD, variance_KD = stg(features.flatten(0, -2)[chosen_K], head_index_F[flat_B[chosen_K]])
            mean_BD[chosen_K], deviation_BD[chosen_K] = mean_KD, variance_KD.sqrt()
        return mean_BD.view_as(features), deviation_BD.view_as(features)

    return transformations


def nearest_heads(
    similarity: str, stage1: tuple[Tensor, Tensor] | None, train: Features, centroids_HD: Tensor, chosen: list[int]
) -> Tensor:
    """The nearest head class of each stored row of each view, by its place among all: an index into `chosen`.

    A head row's is its own. That of a row which is not selected is 0 and means nothing.
    """
    weight_HD, bias_H = None, None
    if similarity == "logit":
        if stage1 is None:
            raise DataError(
                "stg.similarity=logit: wants the stage-1 classifier, the cache holds none; use l2 or cosine"
            )
        weight_HD, bias_H = stage1[0][chosen], stage1[1][chosen]
    own_C = torch.full((len(train.counts_C),), -1)
    own_C[chosen] = torch.arange(len(chosen))
    own_N = own_C[train.labels_N]
    views, stored, _ = train.features_VND.shape
    nearest_F = torch.zeros(views * stored, dtype=torch.long)
    for view in range(views):
        for rows_B in train.blocks():
            nearest_B = nearest_head(train.gather(view, rows_B), centroids_HD, similarity, weight_HD, bias_H)
            nearest_F[train.flat(view, rows_B)] = torch.where(own_N[rows_B] >= 0, own_N[rows_B], nearest_B)
    return nearest_F


def nearest_head(
    features_ND: Tensor,
    centroids_HD: Tensor,
    similarity: str = "l2",
    weight_HD: Tensor | None = None,
    bias_H: Tensor | None = None,
) -> Tensor:
    """The position of the most similar head class for each row, (N,).

    `l2` and `cosine` compare with the centroids, `logit` with the stage-1 classifier's rows for the head classes.
    """
    features_ND = features_ND.float()
    if similarity == "l2":
        # |a - c|^2 without |a|^2, which is common to a row; centred, so that a common offset costs no digits.
        offset_D = centroids_HD.mean(dim=0)
        centred_HD = centroids_HD - offset_D
        return ((features_ND - offset_D) @ centred_HD.T - 0.5 * centred_HD.square().sum(dim=1)).argmax(dim=1)
    if similarity == "cosine":
        return (features_ND @ functional.normalize(centroids_HD, dim=1).T).argmax(dim=1)
    if weight_HD is None or bias_H is None:
        raise DataError(
            "stg.similarity=logit: wanted the stage-1 classifier, found none in the cache; use l2 or cosine"
        )
    return torch.addmm(bias_H, features_ND, weight_HD.T).argmax(dim=1)
