"""Every arm on one cache."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache
from pipeline.longtail import shot_groups
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import stage1_label
from pipeline.settings.stage3 import POST_HOC
from pipeline.stage2_stg import train_stg
from pipeline.stage3_retrain import RetrainResult, retrain
from pipeline.stg.distance import Distance


class Comparison(BaseModel):
    """All arms on one cache, and how far the generator is from its closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    cache: str
    stage1: str
    """What the cache's backbone was trained with, as the table has it."""
    groups: dict[str, int]
    held_out: Distance
    arms: list[RetrainResult]


AUGMENTATIONS = ("none", "dropout", "noise", "closed-form", "stg")


def arms(settings: Settings, classifier: bool = True, augmentations: Sequence[str] | None = None) -> list[Settings]:
    """The settings of each arm: post-hoc classifiers, then the configured head with each augmentation, or those given.

    Without a stage-1 `classifier` in the cache, of those post hoc only the nearest class mean.
    """
    head = settings.retrain.head if settings.retrain.head not in POST_HOC else "crt"
    changes: list[dict[str, Any]] = [{"head": name} for name in POST_HOC if classifier or name == "ncm"]
    changes += [{"head": head, "augmentation": name} for name in augmentations or AUGMENTATIONS]
    return [settings.model_copy(update={"retrain": settings.retrain.model_copy(update=change)}) for change in changes]


def compare(
    settings: Settings, cache: FeatureCache, root: Path, augmentations: Sequence[str] | None = None
) -> Comparison:
    """Run every arm on the cache, taking those that an equal key says are done."""
    groups = shot_groups(cache.counts("train").tolist(), settings.longtail.many_above, settings.longtail.few_below)
    classifier = cache.classifier() is not None
    if not classifier:
        note("the cache holds no stage-1 classifier: it, logit adjustment and tau-normalisation are left out")
    stg_folder, stg = train_stg(settings, cache, root)
    results = [retrain(arm, cache, root, stg_folder)[1] for arm in arms(settings, classifier, augmentations)]
    return Comparison(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stage1=stage1_label(cache.manifest),
        groups={name: len(members) for name, members in groups.items()},
        held_out=stg.held_out,
        arms=results,
    )
