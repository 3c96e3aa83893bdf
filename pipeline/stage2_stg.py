"""Stage 2: learn the Semantic Transformation Generator from the head classes' cached features."""

import time
from pathlib import Path

from pydantic import ValidationError

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.errors import TrainingError
from pipeline.features import Features, coordinates_of, training_rows
from pipeline.machine.device import on_device, with_device
from pipeline.machine.threads import same_bits
from pipeline.progress import note, on_interrupt
from pipeline.settings import Settings
from pipeline.settings.stage2 import STG
from pipeline.stg import trained as stg_file
from pipeline.stg.distance import Distance, distance
from pipeline.stg.episodes import fit_soft, split_heads
from pipeline.stg.fit import HeadRows, fit, head_rows, is_narrow
from pipeline.stg.generator import SemanticTransformationGenerator
from pipeline.stg.statistics import split_statistics

STG_NOT_KEPT = (
    "of this generator nothing is kept, the same command learns it from the start; what was finished before it stays"
)
"""The message of an interrupted stage 2: what its next start does."""


def stg_folder(settings: Settings, cache: FeatureCache, root: Path) -> Path:
    """The run folder of the generator that these settings learn from this cache."""
    narrow = is_narrow(cache.manifest.identity.width, settings.stg)
    key = folders.key_of(
        **with_device(settings).device_key,
        stage="stg",
        stg=settings.stg.model_dump(mode="json", exclude={"network"}) | ({"network": "narrow"} if narrow else {}),
        coordinates=coordinates_of(cache, settings),
        seed=settings.seed,
        cache=cache.key,
    )
    return folders.run_folder(root, settings.name, "stg", key)


def train_stg(settings: Settings, cache: FeatureCache, root: Path) -> tuple[Path, stg_file.STGResult]:
    """Learn the generator, or take it as it is where an equal key says it is done: its run folder and figures.

    Where another process is learning it, this one waits and takes what that one has learnt. Raises DataError where no
    class, or every class, is a head class, or a head class is too small to learn from; TrainingError for a loss or a
    distance that is not finite; ConfigError for a device that cannot be used.
    """
    settings = with_device(settings)
    folder = stg_folder(settings, cache, root)
    with folders.work_to_do(folder, "STG") as to_do:
        if to_do:
            with on_interrupt(STG_NOT_KEPT), on_device(settings):
                return folder, _learn(settings, cache, folder)
    return folder, stg_file.proved(folder)


def _learn(settings: Settings, cache: FeatureCache, folder: Path) -> stg_file.STGResult:
    started = time.monotonic()
    train = training_rows(cache, settings, settings.stg.views)
    learn = _soft if settings.stg.similarity == "soft" else _nearest
    trained, steps, loss, held_out = learn(train, cache, settings, folder)
    if not held_out.learnt:
        note(
            "the generator has not learnt: on head rows it has not seen its shift is no better than none; give it more head "
            "rows (stg.head_classes), or use --augmentation closed-form"
        )
    elif held_out.closed_form_ratio is not None and held_out.zero_shift_ratio >= held_out.closed_form_ratio:
        note(
            "the generator predicts held-out head classes no better than its closed form: --augmentation closed-form does as well"
        )
    result = stg_file.STGResult(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        digest=stg_file.save(folder, trained, settings, cache),
        head_classes=trained.heads,
        steps=steps,
        loss=loss,
        held_out=held_out,
        settings=settings.model_dump(mode="json", include={"seed", "coordinates", "stg"}) | settings.device_key,
        seconds=round(time.monotonic() - started, 3),
    )
    folders.write_json(folder / "metrics.json", result)
    return result


def _nearest(
    train: Features, cache: FeatureCache, settings: Settings, folder: Path
) -> tuple[stg_file.TrainedSTG, int, float, Distance]:
    """The paper's generator, which lends each sample the nearest head class's statistics."""
    rows = head_rows(train, cache.classes, settings.stg, settings.seed)
    folders.start(folder, settings)
    with folders.log(folder) as log, same_bits(train.width):
        stg, steps, loss = fit(rows, settings.stg, settings.seed, log)
        held_out = _distance(stg, rows, settings.stg)
        log.write(held_out=held_out.model_dump(exclude_none=True))
        centroids_HD = split_statistics(rows.fit, len(rows.heads)).mean_CD
    return stg_file.TrainedSTG(stg, rows.heads, centroids_HD), steps, loss, held_out


def _soft(
    train: Features, cache: FeatureCache, settings: Settings, folder: Path
) -> tuple[stg_file.TrainedSTG, int, float, Distance]:
    """The generator that learns from episodes how far a class of n rows borrows from a mixture of head classes."""
    heads = split_heads(train, settings.stg, settings.seed)
    folders.start(folder, settings)
    with folders.log(folder) as log, same_bits(train.width):
        stg, steps, loss, held_out = fit_soft(heads, settings.seed, log)
        log.write(held_out=held_out.model_dump())
    return stg_file.TrainedSTG(stg, heads.heads, stg.lenders().mean_HD), steps, loss, held_out


def _distance(stg: SemanticTransformationGenerator, rows: HeadRows, settings: STG) -> Distance:
    """The generator's distance from the closed form. Raises TrainingError where one of its figures is not finite."""
    try:
        return distance(stg, rows)
    except ValidationError:  # `Distance` takes finite figures alone
        raise TrainingError(
            "train-stg: on held-out head rows the generator's distance from the closed form is not finite; lower "
            f"stg.learning_rate, found {settings.learning_rate:g}"
        ) from None
