"""From settings and a cache to classifiers: post hoc, or retrained from the stage-1 classifier or afresh."""

from collections.abc import Sequence

from cache import FeatureCache
from pipeline import features
from pipeline.augment import augmentation_for
from pipeline.classifiers import linear
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.post_hoc import post_hoc_classifier
from pipeline.classifiers.replicas import train_heads
from pipeline.features import Features, stage1_classifier
from pipeline.settings import Settings
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage3 import POST_HOC, Retrain
from pipeline.stg.trained import TrainedSTG


def train_classifier(
    settings: Settings, cache: FeatureCache, seeds: Sequence[int], trained: TrainedSTG | None
) -> Classifier:
    """The classifier that the settings ask for, one replica a seed."""
    if settings.retrain.head in POST_HOC:
        return post_hoc_classifier(settings.retrain, cache, settings.ram_limit)
    train = features.load(cache, views=settings.retrain.views, ram_limit=settings.ram_limit)
    start = _start(settings.retrain, cache, train, seeds)
    augmentation = augmentation_for(settings, cache, train, trained)
    trained_heads = train_heads(train, start, [settings.retrain], seeds, augmentation, stage3_method(settings.retrain))
    return Classifier(*trained_heads.folded())


def _start(settings: Retrain, cache: FeatureCache, train: Features, seeds: Sequence[int]) -> linear.LinearHeads:
    if settings.start == "fresh":
        return linear.fresh(len(cache.classes), train.width, seeds)
    weight_CD, bias_C = stage1_classifier(cache, "retrain.start=stage1", "use --set retrain.start=fresh")
    return linear.from_classifier(weight_CD, bias_C, len(seeds))
