"""Classifiers that train nothing: made from the stage-1 classifier, or from class means. Pure."""

import torch
from torch import Tensor
from torch.nn import functional


def logit_adjustment(bias_C: Tensor, counts_C: Tensor, tau: float = 1.0) -> Tensor:
    """The bias of argmax z_c - tau log prior_c (Menon et al., 2021, Eq. 9), (C,); an empty class counts as one sample."""
    prior_C = counts_C.clamp(min=1).to(bias_C.dtype)
    return bias_C - tau * torch.log(prior_C / prior_C.sum())


def tau_normalised(weight_CD: Tensor, tau: float = 1.0) -> Tensor:
    """w_c / |w_c|^tau, (C, D); the bias is dropped (Kang et al., 2019, Eq. 6)."""
    return weight_CD / weight_CD.norm(dim=1, keepdim=True).clamp(min=1e-12) ** tau


def nearest_class_mean(features_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(C, D) weight and (C,) bias whose argmax is the nearest L2-normalised class mean (Kang et al., 2019, NCM).

    An empty class gets bias -inf.
    """
    sum_CD = torch.zeros(classes, features_ND.shape[1])
    for features_BD, labels_B in zip(features_ND.split(8192), labels_N.split(8192), strict=True):
        sum_CD.index_add_(0, labels_B, functional.normalize(features_BD.float(), dim=1))
    count_C = torch.bincount(labels_N, minlength=classes)
    weight_CD = functional.normalize(sum_CD, dim=1)
    return weight_CD, torch.where(count_C > 0, 0.0, -torch.inf)
