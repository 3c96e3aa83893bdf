"""Long-tailed classifiers in decoupled stages. Start reading at `run`: it calls the stages in their order."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.compare import Comparison
    from pipeline.comparing.arms import Chosen
    from pipeline.comparing.divergence import Divergence
    from pipeline.comparing.record import MethodComparison
    from pipeline.images.dataset import Dataset
    from pipeline.settings import Settings
    from pipeline.stage3_record import RetrainResult


def run(
    settings: "Settings",
    stores: Path,
    runs: Path,
    augmentations: Sequence[str] | None = None,
    module: str | None = None,
    folds: int | None = None,
) -> "Comparison | None":
    """Images -> backbone -> feature cache -> STG -> retrained classifiers -> figures; what is done is not done again.

    `module`: a backbone of one's own, `module:attribute`, whose code runs. `folds`: of a cross-validation, 0 for none; None:
    some where no test split is given, classes are small, and the backbone never saw the images. Of several processes, the
    first goes on alone after the cache; None in the others. Raises ConfigError for folds of images that stage 1 trains on.
    """
    from pipeline.comparing.folds import check_folds_of_images
    from pipeline.images.dataset import load

    if folds and module is None:
        check_folds_of_images(settings, folds)
    dataset = load(settings)
    cache = make_features(settings, stores, runs, module, dataset)
    if cache is None:
        return None
    if folds is None:
        folds = _folds_wanted(cache) if dataset.holds_out_test else 0
    return (
        run_folds(settings, cache, runs, folds, augmentations)
        if folds
        else run_cache(settings, cache, runs, augmentations)
    )


def _folds_wanted(cache: "FeatureCache") -> int:
    """How many folds make sense where the test split was held out; 0 where that is large enough. A note says which and why."""
    from pipeline.comparing.folds import USUAL_FOLDS, wants_folds
    from pipeline.features import is_unseen
    from pipeline.progress import note

    if not wants_folds(cache.counts("train").tolist(), cache.counts("test").tolist()):
        return 0
    small = "most classes have fewer than 2 of the held-out test images"
    if is_unseen(cache):
        note(
            f"{small}: {USUAL_FOLDS}-fold cross-validation in their place, in which each image is tested once; --folds 0 for none"
        )
        return USUAL_FOLDS
    note(
        f"{small}, so their figures say little; a backbone that has not seen the images, such as --backbone efficientnet-lite0, "
        "lets all images be tested by cross-validation"
    )
    return 0


def make_features(
    settings: "Settings", stores: Path, runs: Path, module: str | None = None, dataset: "Dataset | None" = None
) -> "FeatureCache | None":
    """Images -> backbone -> feature cache: stage 1. Of several processes, the first has the cache; None in the others."""
    from cache import FeatureCache
    from pipeline.images.dataset import load
    from pipeline.longtail import head_classes
    from pipeline.machine.device import with_device
    from pipeline.stage1_backbone import given, stage1
    from pipeline.stage1_extract import extract

    dataset = dataset or load(settings)
    # What stage 2 would refuse is refused before stage 1's hours.
    head_classes(dataset.counts(), settings.stg)
    with_device(settings)
    if module is None:
        backbone = stage1(settings, runs, dataset)
    else:
        settings, backbone = given(settings, runs, module)
        backbone = replace(backbone, dataset=dataset)
    path = extract(settings, backbone, stores)
    return None if path is None else FeatureCache.open(path)


def run_cache(
    settings: "Settings", cache: "FeatureCache", runs: Path, augmentations: Sequence[str] | None = None
) -> "Comparison":
    """Stages 2 and 3: feature cache -> STG -> every classifier -> figures."""
    from pipeline.compare import compare
    from pipeline.stage2_stg import train_stg

    return compare(settings, cache, runs, *train_stg(settings, cache, runs), augmentations)


def run_folds(
    settings: "Settings", cache: "FeatureCache", runs: Path, folds: int, augmentations: Sequence[str] | None = None
) -> "Comparison":
    """Stages 2 and 3 on each fold of a cache's training and test rows, and the figures over all of them.

    Raises ConfigError for a backbone that was trained on those rows, and for `retrain.test_views`, which folds do not have.
    """
    from pipeline.compare import compare_folds
    from pipeline.comparing.folds import cache_folds
    from pipeline.progress import note

    parts = cache_folds(cache, settings, folds)
    comparisons = []
    for number, part in enumerate(parts, 1):
        note(f"fold {number} of {folds}")
        comparisons.append(run_cache(settings, part, runs, augmentations))
    return compare_folds(comparisons, parts, settings, cache.key)


def retrain(
    settings: "Settings", cache: "FeatureCache", runs: Path, stg: Path | None = None
) -> "tuple[Path, RetrainResult]":
    """Stage 3 for one classifier: its run folder and its figures.

    `stg` is the run folder of a generator. Where the settings need a generator and none is given, stage 2 learns it first.
    """
    from pipeline.settings.stage3 import uses_stg
    from pipeline.stage2_stg import train_stg
    from pipeline.stage3_retrain import retrain as stage3

    if stg is None and uses_stg(settings.retrain):
        stg, _ = train_stg(settings, cache, runs)
    return stage3(settings, cache, runs, stg)


def compare_arms(
    settings: "Settings", cache: "FeatureCache", runs: Path, chosen: "Chosen"
) -> "tuple[MethodComparison, list[tuple[Path, RetrainResult]]]":
    """Run the chosen methods on one cache, and measure by how much each differs from the baseline.

    A generator is learnt first where a method needs it. Raises ConfigError for an unknown method, preset or baseline.
    """
    from pipeline.comparing import arms, methods, presets
    from pipeline.machine.device import with_device
    from pipeline.stage2_stg import train_stg

    settings = with_device(settings)
    title, notes, baseline = "", [], chosen.baseline
    if chosen.preset is not None:
        preset = presets.read_preset(chosen.preset)
        title, notes = preset.title, preset.notes
        chosen_arms, left_out = presets.preset_arms(preset, settings, cache)
        if baseline is None:
            wanted = [arm for arm in chosen_arms if preset.baseline in (arm.method, arm.name)] or chosen_arms
            baseline = wanted[0].name if wanted else preset.baseline
    elif chosen.methods:
        chosen_arms, left_out = arms.named(settings, cache, chosen.methods, baseline)
        allowed = [arm.method for arm in chosen_arms]
        baseline = baseline or (arms.PLAIN_HEAD if arms.PLAIN_HEAD in allowed else next(iter(allowed), arms.PLAIN_HEAD))
    else:
        baseline = baseline or arms.PLAIN_HEAD
        chosen_arms, left_out = arms.every(settings, cache, baseline)
    return methods.compare_methods(
        chosen_arms,
        left_out,
        cache,
        runs,
        lambda own: train_stg(own, cache, runs)[0],
        baseline,
        chosen.metric,
        strict=bool(chosen.methods),
        title=title,
        notes=notes,
    )


def divergence_of(settings: "Settings", cache: "FeatureCache", runs: Path) -> "Divergence":
    """The paper's Table 5 on one cache: how much the transformations of five samples of a tail class differ."""
    from pipeline.comparing.divergence import divergence as of_samples
    from pipeline.stage2_stg import train_stg

    return of_samples(settings, cache, train_stg(settings, cache, runs)[0])
