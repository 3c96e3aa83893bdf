"""What a command would do: which steps run and why, which are reused, how much they read and write, how long they take.

Nothing here writes a file. Times are estimated from a few batches of random pixels through the backbone on this machine.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache, catalog
from cache.format.layout import ITEM_BYTES
from pipeline.artefacts import folders
from pipeline.artefacts.reuse import why_not_reused
from pipeline.backbones import build_for
from pipeline.backbones.maps import map_size
from pipeline.classifiers.speed import training_seconds
from pipeline.comparing.folds import USUAL_FOLDS, check_folds_of_cache, check_folds_of_images
from pipeline.images.bad import unlisted
from pipeline.images.dataset import Dataset, load
from pipeline.images.disk_space import free_bytes
from pipeline.images.speed import decoding_seconds
from pipeline.images.transforms.views import recipes
from pipeline.machine.device import on_device, on_this_machine
from pipeline.planning.later_stages import stage2_step, step_without_a_cache, steps_of_cache, wants_folds_of_images
from pipeline.planning.step import Step
from pipeline.settings import Settings
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage3 import uses_stg
from pipeline.stage1_backbone import stage1_key
from pipeline.stage1_identity import identity_wanted
from pipeline.stage2_stg import stg_folder
from pipeline.stage3_retrain import planned
from pipeline.training.speed import probed


class Plan(BaseModel):
    """The steps, and the free disk where most is written."""

    model_config = ConfigDict(frozen=True)

    name: str
    steps: tuple[Step, ...]
    free_bytes: int
    stores: str


def plan_images(
    settings: Settings,
    stores: Path,
    runs: Path,
    extracts: bool = True,
    retrains: bool = True,
    folds: int | None = 0,
) -> Plan:
    """The plan of a command that starts from images: stage 1, unless told otherwise the cache, then stages 2 and 3.

    `folds` as in `pipeline.run`. Every image file is read for its digest, as the command itself would do first. Raises what
    `load` raises, and what `check_folds_of_images` does.
    """
    if folds:
        check_folds_of_images(settings, folds)
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"download": False})})
    settings = on_this_machine(settings)
    with unlisted():
        dataset = load(settings)
        folder = folders.run_folder(runs, settings.name, "backbone", stage1_key(settings, dataset))
        is_done = folders.is_done(folder)
        key = identity_wanted(settings, runs).key() if is_done and extracts else ""
    published = catalog.published(stores, key) if key else None
    train_rate, forward_rate, width = (0.0, 0.0, 0) if published else probed(settings, len(dataset.classes))
    decoding = 0.0 if published else decoding_seconds(dataset.splits["train"].images)
    steps = [_stage1(settings, dataset, folder, train_rate, decoding)]
    if extracts:
        steps.append(_extraction(settings, dataset, published, is_done, forward_rate, decoding, width))
    if folds is None:
        folds = USUAL_FOLDS if wants_folds_of_images(settings, dataset) else 0
    if retrains and published:
        steps += steps_of_cache(settings, FeatureCache.open(published), runs, folds)
    elif retrains:
        steps.append(step_without_a_cache(settings, dataset, width, folds))
    return _plan(settings, steps, stores)


def plan_cache(settings: Settings, cache: FeatureCache, stores: Path, runs: Path, folds: int = 0) -> Plan:
    """The plan of a command that starts from a cache and does stages 2 and 3 with all their methods, in `folds` where not 0.

    Raises what `check_folds_of_cache` does.
    """
    if folds:
        check_folds_of_cache(cache, settings, folds)
    return _plan(settings, steps_of_cache(settings, cache, runs, folds), stores)


def plan_stg(settings: Settings, cache: FeatureCache, stores: Path, runs: Path) -> Plan:
    """The plan of stage 2 alone."""
    return _plan(settings, [stage2_step(settings, cache, runs)], stores)


def plan_retrain(settings: Settings, cache: FeatureCache, stores: Path, runs: Path, stg: Path | None = None) -> Plan:
    """The plan of stage 3 for one method, after stage 2 where it wants a generator and none is given.

    `stg` as in `pipeline.retrain`. Raises LineageError where it was learnt from another cache.
    """
    steps = []
    if uses_stg(settings.retrain) and stg is None:
        steps.append(stage2_step(settings, cache, runs))
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
    with on_device(settings):
        seconds, told = training_seconds(settings.retrain, sum(counts), width, len(counts))
    return _plan(settings, [*steps, Step(name=name, does="run", why=f"{why}; {told}", seconds=seconds)], stores)


def _plan(settings: Settings, steps: list[Step], stores: Path) -> Plan:
    return Plan(name=settings.name, steps=tuple(steps), free_bytes=free_bytes(stores), stores=str(stores))


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
    why = why_not_reused(settings, folder)
    return Step(name=name, does="run", why=why, images=images, bytes_written=written, seconds=seconds)


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
    written = values * ITEM_BYTES[settings.extract.dtype]
    return Step(name=name, does="run", why=why, images=images, bytes_written=written, seconds=seconds)
