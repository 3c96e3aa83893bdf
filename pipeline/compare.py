"""All arms of a comparison on one cache. An arm is a classifier head with an augmentation, such as `crt+stg`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache
from pipeline.features import corrects_the_prior
from pipeline.longtail import group_limits, shot_groups
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import stage1_label
from pipeline.settings.stage3 import ALWAYS_COMPARED
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import retrain
from pipeline.stg.distance import Distance
from pipeline.stg.trained import STGResult

STAGE1 = ("stage1", "logit-adjustment", "tau-norm")
"""Heads that start from the stage-1 classifier, so the cache must hold it."""
COMPUTED = ("auto", *STAGE1, "ncm", "knn", "logistic", "lda", "transfer")
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
    settings: Settings,
    classifier: bool = True,
    augmentations: Sequence[str] | None = None,
    corrected: bool = False,
) -> list[Settings]:
    """The settings of each arm: heads that are computed, then the configured head with each augmentation.

    `augmentations` replaces the usual ones. `classifier` says whether the cache has a stage-1 classifier; without it, the
    heads of `STAGE1` are left out. `corrected` says whether that classifier corrects the training prior already; then logit
    adjustment is left out.
    """
    left_out = set() if classifier else set(STAGE1)
    left_out |= {"logit-adjustment"} if corrected else set()
    head = settings.retrain.head if settings.retrain.is_trained else "crt"
    changes: list[dict[str, Any]] = [{"head": name} for name in COMPUTED if name not in left_out]
    changes += [{"head": head, "augmentation": name} for name in augmentations or ("none", *ALWAYS_COMPARED)]
    return [settings.model_copy(update={"retrain": settings.retrain.model_copy(update=change)}) for change in changes]


def compare(
    settings: Settings,
    cache: FeatureCache,
    root: Path,
    stg_folder: Path,
    stg: STGResult,
    augmentations: Sequence[str] | None = None,
) -> Comparison:
    """Run every arm on the cache with a trained generator. An arm whose run key is finished already is not run again."""
    counts = cache.counts("train").tolist()
    limits = group_limits(counts, settings.longtail.many_above, settings.longtail.few_below)
    tested = [int(n) > 0 for n in cache.counts("test")]
    groups = {name: [c for c in members if tested[c]] for name, members in shot_groups(counts, *limits).items()}
    classifier = cache.classifier() is not None
    if not classifier:
        note("the cache holds no stage-1 classifier: it, logit adjustment and tau-normalisation are left out")
    if classifier and corrects_the_prior(cache):
        note(
            "stage 1 was trained with the prior in its loss: logit adjustment, which would correct it twice, is left out"
        )
    results = [
        retrain(arm, cache, root, stg_folder)[1]
        for arm in arms(settings, classifier, augmentations, corrects_the_prior(cache))
    ]
    return Comparison(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stage1=stage1_label(cache.manifest),
        groups={name: len(members) for name, members in groups.items()},
        limits=limits,
        held_out=stg.held_out,
        arms=results,
    )
