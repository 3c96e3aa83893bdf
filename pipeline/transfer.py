"""What tail samples borrow from head classes: which classes are head, which is nearest, and the closed form of Eq. 1."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.settings import STG
from pipeline.stg import ClassStatistics, split_statistics


def head_classes(counts_C: list[int], settings: STG) -> list[int]:
    """Indices of the head classes by training counts, ascending.

    Count > `head_above`; where that covers more than `head_share_limit` of the classes, the largest `head_share`;
    or the `head_classes` largest. Ties go to the lower index.
    Raises DataError where no class, or every class, would be head.
    """
    by_size = sorted(range(len(counts_C)), key=lambda c: (-counts_C[c], c))
    chosen = by_size[: settings.head_classes]
    if not settings.head_classes:
        chosen = [c for c in by_size if counts_C[c] > settings.head_above]
        if len(chosen) > settings.head_share_limit * len(counts_C):
            chosen = by_size[: max(1, round(settings.head_share * len(counts_C)))]
    if not chosen:
        raise DataError(
            f"no head class: wanted a class with more than {settings.head_above} training samples, "
            f"the largest has {max(counts_C)}; lower stg.head_above or set stg.head_classes"
        )
    if len(chosen) == len(counts_C):
        raise DataError(
            f"no tail class: all {len(counts_C)} classes are head classes, so nothing would be augmented; "
            "raise stg.head_above or set stg.head_classes to fewer"
        )
    return sorted(chosen)


def head_statistics(features: Features, heads: list[int]) -> ClassStatistics:
    """Mean and variance of each head class over its rows' clean features, (H, D), in the order of `heads`."""
    statistics = split_statistics(features, len(features.counts_C))
    return ClassStatistics(statistics.mean_CD[heads], statistics.variance_CD[heads], statistics.count_C[heads])


def nearest_head(
    features_ND: Tensor,
    centroids_HD: Tensor,
    similarity: str = "l2",
    weight_HD: Tensor | None = None,
    bias_H: Tensor | None = None,
) -> Tensor:
    """Index into the head classes of the most similar one for each row, (N,).

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


def closed_form(features_BD: Tensor, head_index_B: Tensor, statistics: ClassStatistics) -> tuple[Tensor, Tensor]:
    """Eq. 1 without a network: mean_h - a and Var_h of head class h, (B, D) each."""
    return statistics.mean_CD[head_index_B] - features_BD.float(), statistics.variance_CD[head_index_B]
