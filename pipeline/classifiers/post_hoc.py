"""Classifiers that train nothing: made from the stage-1 classifier, or from class means. Pure."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.problem import Problem
from pipeline.errors import DataError


def logit_adjustment(bias_C: Tensor, counts_C: Tensor, tau: float = 1.0) -> Tensor:
    """The bias of argmax z_c - tau log prior_c (Menon et al., 2021, Eq. 9), (C,); an empty class counts as one sample."""
    prior_C = counts_C.clamp(min=1).to(bias_C.dtype)
    return bias_C - tau * torch.log(prior_C / prior_C.sum())


def tau_normalised(weight_CD: Tensor, tau: float = 1.0) -> Tensor:
    """w_c / |w_c|^tau, (C, D); the bias is dropped (Kang et al., 2019, Eq. 6)."""
    return weight_CD / weight_CD.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau


def nearest_class_mean(
    blocks: Iterable[tuple[Tensor, Tensor]], classes: int, width: int, distance: str = "cosine"
) -> tuple[Tensor, Tensor]:
    """(C, D) weight and (C,) bias whose argmax is the class with the nearest mean; `blocks` are features (B, D), labels (B,).

    `cosine` is NCM of Kang et al. (2019): the mean of the normalised features, itself normalised, and no bias. `l2` is the plain
    mean m in Euclidean distance: w = m, b = -|m|^2 / 2. A class without rows gets bias -inf.
    """
    sum_CD, count_C = torch.zeros(classes, width), torch.zeros(classes, dtype=torch.long)
    for features_BD, labels_B in blocks:
        rows_BD = functional.normalize(features_BD.float(), dim=1) if distance == "cosine" else features_BD.float()
        sum_CD.index_add_(0, labels_B, rows_BD)
        count_C += torch.bincount(labels_B, minlength=classes)
    if distance == "cosine":
        weight_CD, bias_C = functional.normalize(sum_CD, dim=1), torch.zeros(classes)
    else:
        weight_CD = sum_CD / count_C.clamp(min=1)[:, None]
        bias_C = -0.5 * weight_CD.square().sum(dim=1)
    return weight_CD, bias_C.masked_fill(count_C == 0, -torch.inf)


def stage1(problem: Problem) -> Classifier:
    """The classifier that the backbone was trained with, as it is."""
    weight_CD, bias_C = _stage1(problem)
    return Classifier(weight_CD[None], bias_C[None], prior_power=0.0 if problem.corrected else 1.0)


def adjusted(problem: Problem) -> Classifier:
    """The stage-1 classifier, its bias adjusted by the training prior."""
    weight_CD, bias_C = _stage1(problem)
    if problem.corrected:
        raise DataError(
            f"retrain.head=logit-adjustment: the stage-1 classifier of {problem.origin} was trained with the prior in its loss, "
            "and adjusting it would correct it again; use retrain.head=stage1"
        )
    tau = problem.settings.number("tau")
    bias_C = logit_adjustment(bias_C, problem.train.counts_C, tau)
    return Classifier(weight_CD[None], bias_C[None], prior_power=1 - tau)


def tau_norm(problem: Problem) -> Classifier:
    """The stage-1 classifier, its weights' norms taken to the power 1 - tau."""
    weight_CD, bias_C = _stage1(problem)
    return Classifier(
        tau_normalised(weight_CD, problem.settings.number("tau"))[None],
        torch.zeros_like(bias_C)[None],
        prior_power=None,
    )


def ncm(problem: Problem) -> Classifier:
    """The class with the nearest mean of its clean features, in `retrain.distance`."""
    train = problem.train
    blocks = (
        (train.gather(0, rows_B), train.labels_N[rows_B]) for rows_B in torch.arange(len(train.labels_N)).split(8192)
    )
    weight_CD, bias_C = nearest_class_mean(blocks, problem.classes, train.width, problem.settings.distance)
    return Classifier(weight_CD[None], bias_C[None], prior_power=None)


def _stage1(problem: Problem) -> tuple[Tensor, Tensor]:
    return problem.stage1_classifier(f"retrain.head={problem.settings.head}", "use retrain.head=ncm or crt")
