"""All arms of a comparison on one cache. An arm is a classifier head with an augmentation, such as `crt+stg`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache
from pipeline.comparing.arms import PLAIN_HEAD, STAGE1_HEADS, LeftOut, missing
from pipeline.longtail import groups_with_test_rows
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import label, stage1_label, stage3_method
from pipeline.settings.stage3 import ALWAYS_COMPARED
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import retrain
from pipeline.stg.distance import Distance
from pipeline.stg.trained import STGResult

COMPUTED = ("auto", *STAGE1_HEADS, "ncm", "knn", "logistic", "lda", "transfer")
"""Heads that stand in every comparison and train nothing."""


class Comparison(BaseModel):
    """All arms on one cache, and how far the generator is from its closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    cache: str
    stage1: str
    """What the cache's backbone was trained with, as the table has it."""
    groups: dict[str, int]
    """Classes with test rows that are many-, medium- and few-shot."""
    limits: tuple[int, int]
    """Many-shot classes have more training rows than the first, few-shot ones fewer than the second."""
    held_out: Distance
    arms: list[RetrainResult]


def arms(
    settings: Settings, cache: FeatureCache, augmentations: Sequence[str] | None = None
) -> tuple[list[Settings], list[LeftOut]]:
    """The settings of each arm, and the arms that the cache does not allow: heads that are computed, then the configured head
    with each augmentation, of which `augmentations` replaces the usual ones."""
    head = settings.retrain.head if settings.retrain.is_trained else PLAIN_HEAD
    changes: list[dict[str, Any]] = [{"head": name} for name in COMPUTED]
    changes += [{"head": head, "augmentation": name} for name in augmentations or ("none", *ALWAYS_COMPARED)]
    allowed, left_out = [], []
    for change in changes:
        own = settings.model_copy(update={"retrain": settings.retrain.model_copy(update=change)})
        if reason := missing(own, cache):
            left_out.append(LeftOut(label(stage3_method(own.retrain), stage1_label(cache.manifest)), reason))
        else:
            allowed.append(own)
    return allowed, left_out


def compare(
    settings: Settings,
    cache: FeatureCache,
    root: Path,
    stg_folder: Path,
    stg: STGResult,
    augmentations: Sequence[str] | None = None,
) -> Comparison:
    """Run every arm on the cache with a trained generator. An arm whose run key is finished already is not run again."""
    allowed, left_out = arms(settings, cache, augmentations)
    for lost in left_out:
        note(f"{lost.name}: left out: {lost.reason}")
    results = [retrain(arm, cache, root, stg_folder)[1] for arm in allowed]
    groups, limits = groups_with_test_rows(cache.counts("train"), cache.counts("test"), settings.longtail)
    return Comparison(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stage1=stage1_label(cache.manifest),
        groups=groups,
        limits=limits,
        held_out=stg.held_out,
        arms=results,
    )
