"""Classifiers that train nothing: made from the stage-1 classifier, or from class means. Pure."""

import torch
from torch import Tensor
from torch.nn import functional

from cache import FeatureCache
from pipeline import features
from pipeline.classifiers.linear import Classifier
from pipeline.features import stage1_classifier
from pipeline.settings.stage3 import Retrain


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


def post_hoc_classifier(settings: Retrain, cache: FeatureCache, ram_limit: float) -> Classifier:
    if settings.head == "ncm":
        train = features.load(cache, views=False, ram_limit=ram_limit)
        weight_CD, bias_C = nearest_class_mean(train.features_VND[0], train.labels_N, len(cache.classes))
        return Classifier(weight_CD[None], bias_C[None])
    weight_CD, bias_C = stage1_classifier(cache, f"retrain.head={settings.head}", "use retrain.head=ncm or crt")
    if settings.head == "logit-adjustment":
        bias_C = logit_adjustment(bias_C, torch.from_numpy(cache.counts()), settings.tau)
    if settings.head == "tau-norm":
        weight_CD, bias_C = tau_normalised(weight_CD, settings.tau), torch.zeros_like(bias_C)
    return Classifier(weight_CD[None], bias_C[None])
