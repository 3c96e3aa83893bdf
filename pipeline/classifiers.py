"""From settings and a cache to classifiers: post hoc, or retrained from the stage-1 classifier or afresh."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline import features, heads, posthoc
from pipeline.augment import class_strength
from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.replicas import Augmentation, train_heads
from pipeline.settings import Retrain, Settings
from pipeline.stg_file import TrainedSTG
from pipeline.transfer import head_classes, head_statistics, nearest_head
from pipeline.transformations import from_closed_form, from_generator

POST_HOC = ("stage1", "logit-adjustment", "tau-norm", "ncm")


def method_name(settings: Retrain) -> str:
    """`crt+stg`, `lws`, `logit-adjustment`, …: the head, and the augmentation where there is one."""
    if settings.head in POST_HOC or settings.augmentation == "none":
        return settings.head
    return f"{settings.head}+{settings.augmentation}"


def uses_stg(settings: Retrain) -> bool:
    """Whether these settings need a generator."""
    return settings.head not in POST_HOC and settings.augmentation == "stg"


@dataclass(frozen=True)
class Classifier:
    """R linear classifiers: weight (R, C, D), bias (R, C)."""

    weight_RCD: Tensor
    bias_RC: Tensor


def train_classifier(
    settings: Settings, cache: FeatureCache, seeds: Sequence[int], trained: TrainedSTG | None
) -> Classifier:
    """The classifier that the settings ask for, one replica a seed."""
    if settings.retrain.head in POST_HOC:
        return _post_hoc(settings.retrain, cache, settings.ram_limit)
    train = features.load(cache, views=settings.retrain.views, ram_limit=settings.ram_limit)
    start = _start(settings.retrain, cache, train, seeds)
    augmentation = _augmentation(settings, cache, train, trained)
    trained_heads = train_heads(train, start, [settings.retrain], seeds, augmentation, method_name(settings.retrain))
    return Classifier(*trained_heads.folded())


def _post_hoc(settings: Retrain, cache: FeatureCache, ram_limit: float) -> Classifier:
    if settings.head == "ncm":
        train = features.load(cache, views=False, ram_limit=ram_limit)
        weight_CD, bias_C = posthoc.nearest_class_mean(train.features_VND[0], train.labels_N, len(cache.classes))
        return Classifier(weight_CD[None], bias_C[None])
    weight_CD, bias_C = stage1_classifier(cache, f"retrain.head={settings.head}", "use retrain.head=ncm or crt")
    if settings.head == "logit-adjustment":
        bias_C = posthoc.logit_adjustment(bias_C, torch.from_numpy(cache.counts()), settings.tau)
    if settings.head == "tau-norm":
        weight_CD, bias_C = posthoc.tau_normalised(weight_CD, settings.tau), torch.zeros_like(bias_C)
    return Classifier(weight_CD[None], bias_C[None])


def stage1_classifier(cache: FeatureCache, wanted_by: str, remedy: str) -> tuple[Tensor, Tensor]:
    """The backbone's own classifier, (C, D) and (C,), from the cache; DataError where it holds none."""
    found = cache.classifier()
    if found is None:
        raise DataError(f"{wanted_by}: wants the stage-1 classifier, cache {cache.key[:12]} holds none; {remedy}")
    return torch.from_numpy(found["weight"]).float(), torch.from_numpy(found["bias"]).float()


def _start(settings: Retrain, cache: FeatureCache, train: Features, seeds: Sequence[int]) -> heads.LinearHeads:
    if settings.start == "fresh":
        return heads.fresh(len(cache.classes), train.width, seeds)
    weight_CD, bias_C = stage1_classifier(cache, "retrain.start=stage1", "use --set retrain.start=fresh")
    return heads.from_classifier(weight_CD, bias_C, len(seeds))


def _augmentation(settings: Settings, cache: FeatureCache, train: Features, trained: TrainedSTG | None) -> Augmentation:
    retrain = settings.retrain
    if retrain.augmentation not in ("stg", "closed-form"):
        return Augmentation(retrain.augmentation, None, torch.zeros(len(cache.classes)))
    chosen = trained.heads if trained else head_classes(train.counts_C.tolist(), settings.stg)
    beta_C = class_strength(train.counts_C)
    if retrain.augmented == "tail":
        beta_C[chosen] = 0.0
    statistics = head_statistics(train, chosen)
    centroids_HD = trained.centroids_HD if trained else statistics.mean_CD
    nearest_F = _nearest(settings.stg.similarity, cache, train, centroids_HD, chosen)
    if trained is None:
        return Augmentation(retrain.augmentation, from_closed_form(nearest_F, statistics), beta_C)
    transformations = from_generator(trained.stg, train, nearest_F, beta_C[train.labels_N] > 0)
    return Augmentation(retrain.augmentation, transformations, beta_C)


def _nearest(similarity: str, cache: FeatureCache, train: Features, centroids_HD: Tensor, chosen: list[int]) -> Tensor:
    """The nearest head class of each flat row, view * N + row: an index into `chosen`; a head row's is its own."""
    weight_HD, bias_H = None, None
    if similarity == "logit":
        weight_CD, bias_C = stage1_classifier(cache, "stg.similarity=logit", "use l2 or cosine")
        weight_HD, bias_H = weight_CD[chosen], bias_C[chosen]
    own_C = torch.full((len(cache.classes),), -1)
    own_C[chosen] = torch.arange(len(chosen))
    own_N = own_C[train.labels_N]
    found = []
    for view in range(train.views):
        for rows_B in train.blocks():
            nearest_B = nearest_head(train.gather(view, rows_B), centroids_HD, similarity, weight_HD, bias_H)
            found.append(torch.where(own_N[rows_B] >= 0, own_N[rows_B], nearest_B))
    return torch.cat(found)
