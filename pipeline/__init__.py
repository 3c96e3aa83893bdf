"""Long-tailed classifiers in decoupled stages. The flow, for the reader, is `run`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.settings import Settings


def run(
    settings: "Settings", stores: Path, runs: Path, augmentations: Sequence[str] | None = None
) -> "Comparison | None":
    """Images -> backbone -> feature cache -> STG -> retrained classifiers -> figures; what is done is not done again.

    Of several processes, the first goes on alone after the cache; None in the others.
    """
    from cache import FeatureCache
    from pipeline.compare import compare
    from pipeline.images.dataset import load
    from pipeline.longtail import head_classes
    from pipeline.stage1_backbone import stage1
    from pipeline.stage1_extract import extract
    from pipeline.stage2_stg import train_stg

    dataset = load(settings)
    head_classes(dataset.counts(), settings.stg)  # what stage 2 would refuse is refused before stage 1's hours
    backbone = stage1(settings, runs, dataset)
    path = extract(settings, backbone, stores)
    if path is None:
        return None
    cache = FeatureCache.open(path)
    train_stg(settings, cache, runs)
    return compare(settings, cache, runs, augmentations)
