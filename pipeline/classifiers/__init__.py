"""From settings and a cache to classifiers: computed, or trained from the stage-1 classifier or afresh."""

from collections.abc import Sequence
from dataclasses import replace

from cache import FeatureCache
from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.mean_shift import mean_shift
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.features import corrects_the_prior, is_unseen, load, stage1_classifier, training_rows
from pipeline.settings import Settings, register
from pipeline.stg.trained import TrainedSTG


def train_classifier(
    settings: Settings, cache: FeatureCache, seeds: Sequence[int], trained: TrainedSTG | None
) -> Classifier | Scored:
    """The classifier that the settings ask for, one replica a seed; `trained` is the generator where they want one."""
    retrain = settings.retrain
    train = training_rows(cache, settings, views=retrain.is_trained and retrain.views)
    stage1 = stage1_classifier(cache)
    if stage1 is not None and train.coordinates is not None:
        stage1 = train.coordinates.unfold(*stage1)
    transfers = retrain.is_trained and retrain.augmentation == "transfer"
    val = None
    if (register.HEADS[retrain.head].reads_val or transfers) and "val" in cache.splits:
        val = replace(load(cache, "val", views=False, ram_limit=settings.ram_limit), coordinates=train.coordinates)
    shift_CD = mean_shift(retrain, train, is_unseen(cache), val, settings.seed) if transfers else None
    augmentation = augmentation_for(settings, train, stage1, trained, shift_CD) if retrain.is_trained else UNCHANGED
    problem = Problem(
        retrain,
        train,
        seeds,
        stage1,
        augmentation,
        is_unseen(cache),
        corrects_the_prior(cache),
        val,
        settings.choice.metric,
        f"cache {cache.key[:12]}",
    )
    classifier = kind(retrain.head)(problem)
    return classifier if train.coordinates is None else classifier.folded(train.coordinates)
