"""From settings and a cache to classifiers: computed, or trained from the stage-1 classifier or afresh."""

from collections.abc import Sequence

import torch

from cache import FeatureCache
from pipeline import features
from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.problem import Problem
from pipeline.settings import Settings
from pipeline.stg.trained import TrainedSTG


def train_classifier(
    settings: Settings, cache: FeatureCache, seeds: Sequence[int], trained: TrainedSTG | None
) -> Classifier:
    """The classifier that the settings ask for, one replica a seed; `trained` is the generator where they want one."""
    retrain = settings.retrain
    views = retrain.is_trained and retrain.views
    train = features.load(cache, views=views, ram_limit=settings.ram_limit)
    augmentation = augmentation_for(settings, cache, train, trained) if retrain.is_trained else UNCHANGED
    found = cache.classifier()
    stage1 = (
        None if found is None else (torch.from_numpy(found["weight"]).float(), torch.from_numpy(found["bias"]).float())
    )
    problem = Problem(retrain, train, seeds, stage1, augmentation, f"cache {cache.key[:12]}")
    return kind(retrain.head)(problem)
