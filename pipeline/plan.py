"""What a command would do: which steps run and why, which are reused, how much they read and write, how long they take.

Nothing here writes a file. Times are estimated from a few batches of random pixels through the backbone on this machine.
"""

import shutil
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache, catalog
from pipeline.artefacts import folders
from pipeline.backbones import build_for
from pipeline.backbones.maps import map_size
from pipeline.backbones.speed import probed
from pipeline.classifiers.speed import training_seconds
from pipeline.errors import ConfigError
from pipeline.images.bad import unlisted
from pipeline.images.dataset import Dataset, load
from pipeline.images.looking import look_at
from pipeline.images.transforms.views import recipes
from pipeline.longtail import head_classes
from pipeline.machine.device import on_this_machine
from pipeline.settings import Settings
from pipeline.settings.files import flat, read_toml
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage3 import ALWAYS_COMPARED, uses_stg
from pipeline.stage1_backbone import stage1_key
from pipeline.stage1_identity import identity_wanted
from pipeline.stage2_stg import stg_folder
from pipeline.stage3_retrain import planned
from pipeline.stg.speed import learning_seconds

DECODED = 20
"""Images whose decoding is timed."""
NAMED = 3
"""Differing settings that a sentence names at most. The others are counted."""
BYTES = {"float16": 2, "float32": 4}


class Step(BaseModel):
    """One step of a plan. `seconds` is None where only running it would tell."""

    model_config = ConfigDict(frozen=True)

    name: str
    does: str
    """`run`, `go on` or `reuse`."""
    why: str
    images: int = 0
    bytes_written: int = 0
    seconds: float | None = None


class Plan(BaseModel):
    """The steps, and the free disk where most is written."""

    model_config = ConfigDict(frozen=True)

    name: str
    steps: tuple[Step, ...]
    free_bytes: int
    stores: str


def plan_images(settings: Settings, stores: Path, runs: Path, extracts: bool = True, retrains: bool = True) -> Plan:
    """The plan of a command that starts from images: stage 1, unless told otherwise the cache, then stages 2 and 3.

    Every image file is read for its digest, as the command itself would do first. Raises what `load` raises.
    """
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"download": False})})
    settings = on_this_machine(settings)
    with unlisted():
        dataset = load(settings)
        folder = folders.run_folder(runs, settings.name, "backbone", stage1_key(settings, dataset))
        is_done = folders.is_done(folder)
        key = identity_wanted(settings, runs).key() if is_done and extracts else ""
    published = catalog.published(stores, key) if key else None
    train_rate, forward_rate, width = (0.0, 0.0, 0) if published else probed(settings, len(dataset.classes))
    decoding = 0.0 if published else _decoding_seconds(dataset)
    steps = [_stage1(settings, dataset, folder, train_rate, decoding)]
    if extracts:
        steps.append(_extraction(settings, dataset, published, is_done, forward_rate, decoding, width))
    if retrains and published:
        steps += _later_steps(settings, FeatureCache.open(published), runs)
    elif retrains:
        steps.append(_stages_without_a_cache(settings, dataset, width))
    return _plan(settings, steps, stores)


def plan_cache(settings: Settings, cache: FeatureCache, stores: Path, runs: Path) -> Plan:
    """The plan of a command that starts from a cache and does stages 2 and 3 with all their methods."""
    return _plan(settings, _later_steps(settings, cache, runs), stores)


def plan_stg(settings: Settings, cache: FeatureCache, stores: Path, runs: Path) -> Plan:
    """The plan of stage 2 alone."""
    return _plan(settings, [_stage2(settings, cache, runs)], stores)


def plan_retrain(settings: Settings, cache: FeatureCache, stores: Path, runs: Path, stg: Path | None = None) -> Plan:
    """The plan of stage 3 for one method, after stage 2 where it wants a generator and none is given.

    `stg` as in `pipeline.retrain`. Raises LineageError where it was learnt from another cache.
    """
    steps = []
    if uses_stg(settings.retrain) and stg is None:
        steps.append(_stage2(settings, cache, runs))
        stg = stg_folder(settings, cache, runs)
    name = f"stage 3: {stage3_method(settings.retrain)}"
    rows = sum(len(cache.labels(split)) for split in cache.splits)
    why, is_done = "its generator is not learnt yet", False
    if not steps or steps[0].does != "run":
        folder = planned(settings, cache, runs, stg).folder
        is_done = folders.is_done(folder)
        why = f"{folder} is finished" if is_done else f"no finished run has these settings, on {rows:,} cached rows"
    if is_done or not settings.retrain.is_trained:
        return _plan(settings, [*steps, Step(name=name, does="reuse" if is_done else "run", why=why)], stores)
    counts, width = cache.counts("train").tolist(), cache.manifest.identity.width
    seconds, told = training_seconds(settings.retrain, sum(counts), width, len(counts))
    return _plan(settings, [*steps, Step(name=name, does="run", why=f"{why}; {told}", seconds=seconds)], stores)


def _plan(settings: Settings, steps: list[Step], stores: Path) -> Plan:
    place = next(folder for folder in (stores, *stores.parents) if folder.is_dir())
    return Plan(name=settings.name, steps=tuple(steps), free_bytes=shutil.disk_usage(place).free, stores=str(stores))


def _stage1(settings: Settings, dataset: Dataset, folder: Path, rate: float, decoding: float) -> Step:
    """`rate`: training images a second, 0 where nothing was probed; `decoding`: seconds an image."""
    images = len(dataset.splits["train"]) * settings.stage1.epochs
    total = sum(len(split) for split in dataset.splits.values())
    name = f"stage 1: train {settings.backbone.full_name} for {settings.stage1.epochs} epochs"
    if settings.stage1.epochs == 0:
        name = f"stage 1: take {settings.backbone.full_name} as it is"
    if folders.is_done(folder):
        return Step(name=name, does="reuse", why=f"{folder} is finished", images=total)
    seconds = images / rate + total * decoding if rate else None
    written = sum(split.images.bytes_to_write() for split in dataset.splits.values())
    if (folder / folders.CHECKPOINT).is_file():
        return Step(
            name=name,
            does="go on",
            why=f"{folder} has a checkpoint",
            images=images,
            bytes_written=written,
            seconds=seconds,
        )
    why = _why_not_reused(settings, folder)
    return Step(name=name, does="run", why=why, images=images, bytes_written=written, seconds=seconds)


def _why_not_reused(settings: Settings, folder: Path) -> str:
    """The settings in which the newest finished backbone of this name differs, as text; or that there is no such backbone."""
    others = [path for path in folder.parent.glob("backbone-*") if folders.is_done(path) and path != folder]
    if not others:
        return f"there is no finished backbone of {settings.name} yet"
    newest = max(others, key=lambda path: (path / "metrics.json").stat().st_mtime)
    try:
        recorded = flat(read_toml(newest / "config.toml"))
    except ConfigError:
        return f"{newest.name} does not say what it was made with"
    sections = ("data", "longtail", "backbone", "stage1")
    wanted = flat(settings.model_dump(mode="json", include={"seed", *sections}))
    differing = [
        f"{key} ({_shown(recorded[key])}, now {_shown(value)})"
        for key, value in wanted.items()
        if key in recorded
        and recorded[key] != value
        and key not in ("data.workers", "data.ram_limit", "data.decoded", "data.on_bad")
    ]
    more = f" and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
    if not differing:
        return f"{newest.name} was trained with these settings on other images or labels"
    return f"{newest.name} differs in {', '.join(differing[:NAMED])}{more}"


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _extraction(
    settings: Settings,
    dataset: Dataset,
    published: Path | None,
    has_backbone: bool,
    rate: float,
    decoding: float,
    width: int,
) -> Step:
    name = f"extract features of {settings.backbone.full_name}"
    images = sum(len(split) * len(recipes(settings, part)) for part, split in dataset.splits.items())
    if published is not None:
        return Step(name=name, does="reuse", why=f"cache {published.name[:12]} has this identity", images=images)
    why = (
        "no cache has the identity of this backbone and these images" if has_backbone else "the backbone is not trained"
    )
    values = images * width
    if size := map_size(settings, build_for(settings, len(dataset.classes)).backbone):
        clean = sum(len(split) for split in dataset.splits.values())
        images, values = images + clean, values + clean * width * size[0] * size[1]
    seconds = images / rate + images * decoding if rate else None
    written = values * BYTES[settings.extract.dtype]
    return Step(name=name, does="run", why=why, images=images, bytes_written=written, seconds=seconds)


def _stage2(settings: Settings, cache: FeatureCache, runs: Path) -> Step:
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
    seconds, told = learning_seconds(settings.stg, width, [counts[c] for c in head_classes(counts, settings.stg)])
    return seconds, f"; {told}"


def _training(settings: Settings, counts: list[int], width: int) -> tuple[float, str]:
    """Seconds of the trained heads of a comparison, one an augmentation, by a probe of one; and their steps as text."""
    heads = 1 + len(ALWAYS_COMPARED)
    seconds, told = training_seconds(settings.retrain, sum(counts), width, len(counts))
    return heads * seconds, f"; {heads} trained heads of {told}; heads that are computed are not timed"


def _stages_without_a_cache(settings: Settings, dataset: Dataset, width: int) -> Step:
    """Stages 2 and 3 with all their methods, before there is a cache. `width` is that of a feature."""
    counts = dataset.counts()
    learning, _ = _learning(settings, counts, width)
    training, told = _training(settings, counts, width)
    seconds = training + (learning or 0.0)
    why = f"there is no cache of these settings yet{told}"
    return Step(name="stages 2 and 3", does="run", why=why, seconds=seconds)


def _later_steps(settings: Settings, cache: FeatureCache, runs: Path) -> list[Step]:
    finished = sum(
        folders.is_done(path)
        for path in (runs / settings.name).glob("*-*")
        if not path.name.startswith(("stg-", "backbone-"))
    )
    rows = sum(len(cache.labels(split)) for split in cache.splits)
    counts, width = cache.counts("train").tolist(), cache.manifest.identity.width
    seconds, told = _training(settings, counts, width)
    why = (
        f"{finished} runs of this name are finished; those of equal settings are reused, on {rows:,} cached rows{told}"
    )
    stage3 = Step(name="stage 3: classifiers", does="run", why=why, seconds=seconds)
    return [_stage2(settings, cache, runs), stage3]


def _decoding_seconds(dataset: Dataset) -> float:
    """Seconds that an image takes to decode, over a few training images."""
    items = dataset.splits["train"].images.sample(DECODED)
    started = time.perf_counter()
    for item in items:
        look_at(item)
    return (time.perf_counter() - started) / max(len(items), 1)
