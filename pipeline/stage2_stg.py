"""Stage 2: learn the Semantic Transformation Generator from the head classes' cached features."""

import time
from pathlib import Path

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.features import training_rows
from pipeline.machine.threads import same_bits
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.stg import trained as stg_file
from pipeline.stg.distance import distance
from pipeline.stg.fit import fit, head_rows
from pipeline.stg.statistics import split_statistics


def stg_folder(settings: Settings, cache: FeatureCache, root: Path) -> Path:
    """The run folder of the generator that these settings learn from this cache."""
    key = folders.key_of(
        stage="stg", stg=settings.stg, coordinates=settings.coordinates, seed=settings.seed, cache=cache.key
    )
    return folders.run_folder(root, settings.name, "stg", key)


def train_stg(settings: Settings, cache: FeatureCache, root: Path) -> tuple[Path, stg_file.STGResult]:
    """Learn the generator, or take it as it is where an equal key says it is done: its run folder and figures.

    Raises DataError where no class, or every class, is a head class, or a head class is too small to learn from.
    """
    folder = stg_folder(settings, cache, root)
    if folders.is_done(folder):
        result = stg_file.proved(folder)
        note(f"done already: {folder}", level=2)
        return folder, result
    started = time.monotonic()
    train = training_rows(cache, settings, settings.stg.views)
    rows = head_rows(train, cache.classes, settings.stg, settings.seed)
    folders.start(folder, settings)
    with folders.log(folder) as log, same_bits(train.width):
        stg, steps, loss = fit(rows, settings.stg, settings.seed, log)
        held_out = distance(stg, rows)
        log.write(held_out=held_out.model_dump())
        centroids_HD = split_statistics(rows.fit, len(rows.heads)).mean_CD
    if not held_out.learnt:
        note(
            "the generator has not learnt: on head rows it has not seen its shift is no better than none; give it more head "
            "rows (stg.head_classes), or use --augmentation closed-form"
        )
    trained = stg_file.TrainedSTG(stg, rows.heads, centroids_HD)
    digest = stg_file.save(folder, trained, settings, cache)
    result = stg_file.STGResult(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        digest=digest,
        head_classes=rows.heads,
        steps=steps,
        loss=loss,
        held_out=held_out,
        settings=settings.model_dump(mode="json", include={"seed", "coordinates", "stg"}),
        seconds=round(time.monotonic() - started, 3),
    )
    folders.write_json(folder / "metrics.json", result)
    return folder, result
