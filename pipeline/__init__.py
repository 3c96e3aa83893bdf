"""Long-tailed classifiers in decoupled stages. The flow, for the reader, is `run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.compare import Comparison
    from pipeline.settings import Settings
    from pipeline.stage3_retrain import RetrainResult


def run(
    settings: "Settings", stores: Path, runs: Path, augmentations: Sequence[str] | None = None
) -> "Comparison | None":
    """Images -> backbone -> feature cache -> STG -> retrained classifiers -> figures; what is done is not done again.

    Of several processes, the first goes on alone after the cache; None in the others.
    """
    from cache import FeatureCache
    from pipeline.images.dataset import load
    from pipeline.longtail import head_classes
    from pipeline.stage1_backbone import stage1
    from pipeline.stage1_extract import extract

    dataset = load(settings)
    head_classes(dataset.counts(), settings.stg)  # what stage 2 would refuse is refused before stage 1's hours
    backbone = stage1(settings, runs, dataset)
    path = extract(settings, backbone, stores)
    return None if path is None else run_cache(settings, FeatureCache.open(path), runs, augmentations)


def run_cache(
    settings: "Settings", cache: "FeatureCache", runs: Path, augmentations: Sequence[str] | None = None
) -> "Comparison":
    """Feature cache -> STG -> every classifier -> figures: stages 2 and 3."""
    from pipeline.compare import compare
    from pipeline.stage2_stg import train_stg

    return compare(settings, cache, runs, *train_stg(settings, cache, runs), augmentations)


def retrain(
    settings: "Settings", cache: "FeatureCache", runs: Path, stg: Path | None = None
) -> "tuple[Path, RetrainResult]":
    """Stage 3 for one classifier, after stage 2 where its settings want a generator and `stg`, a run folder, is not given."""
    from pipeline.settings.stage3 import uses_stg
    from pipeline.stage2_stg import train_stg
    from pipeline.stage3_retrain import retrain as stage3

    if stg is None and uses_stg(settings.retrain):
        stg, _ = train_stg(settings, cache, runs)
    return stage3(settings, cache, runs, stg)
