"""All arms of a comparison on one cache. An arm is a classifier head with an augmentation, such as `crt+stg`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from cache import FeatureCache
from cache.folded import Fold
from pipeline.comparing.arms import PLAIN_HEAD, STAGE1_HEADS, LeftOut, missing
from pipeline.comparing.folds import mean_distance, over_folds, whole_counts
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
    folds: int = 0
    """Where figures are from cross-validation, the number of folds; 0: from a test split."""
    tested: int = 0
    """With folds: the rows that were tested, each once."""


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
            method = stage3_method(own.retrain)
            left_out.append(LeftOut(label(method, stage1_label(cache.manifest)), reason, method=method))
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


def compare_folds(comparisons: Sequence[Comparison], parts: Sequence[Fold], settings: Settings, key: str) -> Comparison:
    """The comparisons on all folds of a cache as one, whose figures are over all rows that were tested.

    An arm stands in it where every fold allowed it.
    """
    first = comparisons[0]
    by_method = [{arm.method: arm for arm in comparison.arms} for comparison in comparisons]
    shared = [arm.method for arm in first.arms if all(arm.method in arms for arms in by_method)]
    counts = np.array(whole_counts(parts))
    tested_C = np.sum([part.counts("test") for part in parts], axis=0)
    groups, limits = groups_with_test_rows(counts, tested_C, settings.longtail)
    return first.model_copy(
        update={
            "cache": key,
            "groups": groups,
            "limits": limits,
            "held_out": mean_distance([comparison.held_out for comparison in comparisons]),
            "arms": [over_folds([arms[name] for arms in by_method], parts, settings.longtail, key) for name in shared],
            "folds": len(comparisons),
            "tested": int(tested_C.sum()),
        }
    )
