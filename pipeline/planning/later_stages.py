"""Stages 2 and 3 in a plan: what of them is done, and how long the rest takes by a probe of a few steps."""

from pathlib import Path

import numpy as np

from cache import FeatureCache
from cache.folded import POOLED
from pipeline.artefacts import folders
from pipeline.classifiers.speed import training_seconds
from pipeline.comparing.folds import wants_folds
from pipeline.images.dataset import Dataset
from pipeline.longtail import head_classes
from pipeline.machine.device import on_device
from pipeline.planning.step import Step
from pipeline.settings import Settings
from pipeline.settings.stage3 import ALWAYS_COMPARED
from pipeline.stage2_stg import stg_folder
from pipeline.stg.speed import learning_seconds


def stage2_step(settings: Settings, cache: FeatureCache, runs: Path) -> Step:
    """Stage 2: whether its generator is there, or how long it is learnt."""
    name, folder = "stage 2: learn the generator", stg_folder(settings, cache, runs)
    if folders.is_done(folder):
        return Step(name=name, does="reuse", why=f"{folder} is finished")
    seconds, told = _learning(settings, cache.counts("train").tolist(), cache.manifest.identity.width)
    why = f"cache {cache.key[:12]} has no generator of these settings yet{told}"
    return Step(name=name, does="run", why=why, seconds=seconds)


def _learning(settings: Settings, counts: list[int], width: int) -> tuple[float | None, str]:
    """Seconds of stage 2 by a probe, and its steps as text; None for the soft generator, whose steps are others."""
    if settings.stg.similarity == "soft":
        return None, ""
    with on_device(settings):
        seconds, told = learning_seconds(settings.stg, width, [counts[c] for c in head_classes(counts, settings.stg)])
    return seconds, f"; {told}"


def _training(settings: Settings, counts: list[int], width: int) -> tuple[float, str]:
    """Seconds of the trained heads of a comparison, one an augmentation, by a probe of one; and their steps as text."""
    heads = 1 + len(ALWAYS_COMPARED)
    with on_device(settings):
        seconds, told = training_seconds(settings.retrain, sum(counts), width, len(counts))
    return heads * seconds, f"; {heads} trained heads of {told}; heads that are computed are not timed"


def wants_folds_of_images(settings: Settings, dataset: Dataset) -> bool:
    """Whether `run` takes folds by itself: for a held-out test split that is tiny, of a backbone that is not trained."""
    test_C = np.bincount(dataset.splits["test"].labels_N, minlength=len(dataset.classes)).tolist()
    return dataset.holds_out_test and not settings.stage1.epochs and wants_folds(dataset.counts(), test_C)


def step_without_a_cache(settings: Settings, dataset: Dataset, width: int, folds: int) -> Step:
    """Stages 2 and 3 with all their methods, before there is a cache. `width` is that of a feature."""
    if folds:
        labels_N = np.concatenate([dataset.splits[split].labels_N for split in POOLED if split in dataset.splits])
        return _in_folds(settings, np.bincount(labels_N, minlength=len(dataset.classes)).tolist(), width, folds)
    seconds, told = _learning_and_training(settings, dataset.counts(), width)
    return Step(
        name="stages 2 and 3", does="run", why=f"there is no cache of these settings yet{told}", seconds=seconds
    )


def _in_folds(settings: Settings, counts: list[int], width: int, folds: int) -> Step:
    """Stages 2 and 3 in each fold. `counts` are the rows of each class, those that the folds test among them."""
    seconds, told = _learning_and_training(settings, [n - n // folds for n in counts], width)
    why = f"each of {sum(n for n in counts if n > 1):,} rows is tested once; in each fold{told.removeprefix(';')}"
    return Step(name=f"stages 2 and 3 in {folds} folds", does="run", why=why, seconds=folds * seconds)


def _learning_and_training(settings: Settings, counts: list[int], width: int) -> tuple[float, str]:
    learning, _ = _learning(settings, counts, width)
    training, told = _training(settings, counts, width)
    return training + (learning or 0.0), told


def steps_of_cache(settings: Settings, cache: FeatureCache, runs: Path, folds: int) -> list[Step]:
    """Stages 2 and 3 with all their methods, in `folds` where not 0. Which runs of folds are done is not looked at."""
    counts, width = cache.counts("train").tolist(), cache.manifest.identity.width
    if folds:
        pooled = [cache.counts(split).tolist() for split in POOLED if split in cache.splits]
        return [_in_folds(settings, [sum(rows) for rows in zip(*pooled, strict=True)], width, folds)]
    finished = sum(
        folders.is_done(path)
        for path in (runs / settings.name).glob("*-*")
        if not path.name.startswith(("stg-", "backbone-"))
    )
    rows = sum(len(cache.labels(split)) for split in cache.splits)
    seconds, told = _training(settings, counts, width)
    why = (
        f"{finished} runs of this name are finished; those of equal settings are reused, on {rows:,} cached rows{told}"
    )
    stage3 = Step(name="stage 3: classifiers", does="run", why=why, seconds=seconds)
    return [stage2_step(settings, cache, runs), stage3]
