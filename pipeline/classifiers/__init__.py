"""From settings and a cache to classifiers: computed, or trained from the stage-1 classifier or afresh."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers import fixed_rule
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.mean_shift import mean_shift
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.features import corrects_the_prior, is_unseen, last_maps, load, stage1_classifier, training_rows
from pipeline.machine.device import keep_freed_memory, on_device
from pipeline.settings import Retrain, Settings
from pipeline.settings.register import HEADS
from pipeline.settings.stage3 import CHOOSES, READS_MAPS, VALIDATES
from pipeline.stg.trained import TrainedSTG


def train_classifier(
    settings: Settings, cache: FeatureCache, seeds: Sequence[int], trained: TrainedSTG | None
) -> Classifier | Scored:
    """The classifier that the settings ask for, one replica a seed; `trained` is the generator where they want one."""
    return train_classifiers([settings], cache, seeds, trained)


def train_classifiers(
    variants: Sequence[Settings],
    cache: FeatureCache,
    seeds: Sequence[int],
    trained: TrainedSTG | None,
    rows_N: Tensor | None = None,
) -> Classifier | Scored:
    """The classifiers of settings that are trained side by side: replica = (settings, seed).

    They may differ in `replicas.PER_REPLICA` of `retrain`, and a head that is computed takes one alone. With `rows_N` only
    those training rows are used. They are trained on the settings' device and come back to the CPU.
    """
    keep_freed_memory()
    with on_device(variants[0]) as device:
        trained = None if trained is None else trained.on(device)
        rows_N = None if rows_N is None else rows_N.to(device)
        return _train(variants, cache, seeds, trained, rows_N).on(torch.device("cpu"))


def _train(
    variants: Sequence[Settings],
    cache: FeatureCache,
    seeds: Sequence[int],
    trained: TrainedSTG | None,
    rows_N: Tensor | None,
) -> Classifier | Scored:
    settings = variants[0]
    if follows_the_rule(settings, cache):
        return _by_the_rule(settings, cache, rows_N)
    retrain = settled(settings, cache)
    train = training_rows(cache, settings, views=retrain.is_trained and retrain.views)
    train = train if rows_N is None else train.select(rows_N)
    if retrain.is_trained and retrain.augmentation in READS_MAPS:
        train = replace(
            train, maps=last_maps(cache, f"retrain.augmentation={retrain.augmentation}", settings.ram_limit)
        )
    stage1 = stage1_classifier(cache, train.coordinates)
    transfers = retrain.is_trained and retrain.augmentation == "transfer"
    val = None
    if (retrain.head in VALIDATES or transfers) and "val" in cache.splits:
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
        [settled(variant, cache) for variant in variants],
    )
    classifier = kind(retrain.head)(problem)
    return classifier if train.coordinates is None else classifier.folded(train.coordinates)


def _by_the_rule(settings: Settings, cache: FeatureCache, rows_N: Tensor | None) -> Classifier:
    rule = fixed_rule.by_the_rule(settings)
    together = _train([rule], cache, fixed_rule.seeds_from(settings.seed), None, rows_N)
    assert isinstance(together, Classifier)
    train = load(cache, views=False, ram_limit=settings.ram_limit)
    train = train if rows_N is None else train.select(rows_N)
    return fixed_rule.completed(fixed_rule.averaged(together, train.counts_C), train, settings.seed)


def follows_the_rule(settings: Settings, cache: FeatureCache) -> bool:
    """Whether `auto` has no rows to choose on in this cache."""
    return settings.retrain.head == "auto" and not _chooses(cache)


def draws_at_random(settings: Settings, cache: FeatureCache) -> bool:
    """Whether the head draws anything at random from this cache, so that another seed can give another classifier.

    A head that chooses something deals the training rows to folds; not where there is a `val` split to choose on, or
    nothing to choose.
    """
    head, retrain = settings.retrain.head, settings.retrain
    if "seed" not in HEADS[head].uses:
        return False
    if retrain.is_trained or head not in VALIDATES or follows_the_rule(settings, cache):
        return True
    if "val" in cache.splits or (head == "scaling" and cache.classifier() is not None):
        return False
    choices = CHOOSES.get(head, ())
    return not choices or (is_unseen(cache) and any(getattr(retrain, name) == "auto" for name in choices))


def settled(settings: Settings, cache: FeatureCache) -> Retrain:
    """The settings of `retrain` with a number in place of each `auto` that is not chosen on rows of this cache."""
    return settings.retrain.settled(chooses=_chooses(cache))


def _chooses(cache: FeatureCache) -> bool:
    return is_unseen(cache) or "val" in cache.splits
