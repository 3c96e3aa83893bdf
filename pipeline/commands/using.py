"""Predict: a finished classifier on new images or features."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pipeline.commands.options import Command, HomePath, output_options
from pipeline.commands.output import show
from pipeline.commands.run_cache import cache_of
from pipeline.commands.stage_options import test_views_option

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.predict import Classifies, Reads
    from pipeline.predicting.files import Prediction

LIKELIEST = 3
"""Classes of a row that a line for people names."""
NAMED = 20
"""Broken images that are named on stderr; a file of predictions has all of them."""


@click.command(cls=Command)
@click.option("--run", "folder", type=HomePath(), help="A run folder of retrain.")
@click.option("--model", type=HomePath(), help="In place of a run: a file that export wrote.")
@click.argument("paths", nargs=-1)
@click.option("--features", type=HomePath(), help="Features (N, D) in place of images: .npy, .npz, …")
@click.option(
    "--top", default=5, show_default=True, type=click.IntRange(1, 1000), help="Classes to name for each image."
)
@click.option("-o", "--output", type=HomePath(), help="A .parquet, .csv or .jsonl file to write.")
@click.option("--image-column", default="image", show_default=True, help="The column of Parquet files with images.")
@click.option("--backbone", type=HomePath(), help="The stage-1 run folder; by default the cache's own.")
@click.option("--cache", "reference", help="The cache, where it is not in stores/ under its key.")
@test_views_option
@output_options
def predict(
    folder: Path | None,
    model: Path | None,
    paths: tuple[str, ...],
    features: Path | None,
    top: int,
    output: Path | None,
    image_column: str,
    backbone: Path | None,
    reference: str | None,
    views: int | str,
    as_json: bool,
) -> None:
    """The likeliest classes of images: files, folders, globs, Parquet files; or, with --features, of rows of features.

    coattail predict --run runs/own/crt+stg-0123456789ab photos/new -o predictions.csv
    """
    if bool(paths) == bool(features):
        raise click.UsageError("wanted images, or --features FILE, one of the two")
    column_given = click.get_current_context().get_parameter_source("image_column") is not ParameterSource.DEFAULT
    if features is not None and (backbone or column_given):
        raise click.UsageError("--backbone and --image-column are for images: --features FILE needs neither")
    if bool(folder) == bool(model):
        raise click.UsageError("wanted --run FOLDER or --model FILE, one of the two")
    if model is not None and (backbone or reference):
        raise click.UsageError("--backbone and --cache are for --run: an exported file has what it needs")
    if views != 1 and (model is not None or features is not None):
        raise click.UsageError(
            "--test-views is for images and --run: features are of one view, and an exported file sees one"
        )
    from pipeline.predict import predict_features, predict_images
    from pipeline.predicting.files import PredictionFile, as_object, names_digest
    from pipeline.progress import on_interrupt

    use = _model(model, bool(paths)) if model else _run(folder, reference, backbone, bool(paths), views)  # type: ignore[arg-type]
    top = min(top, use.classes)
    made_from = {**use.made_from, "top": top}
    if features is not None:
        array = _features(features)
        made_from["inputs"] = names_digest([[str(features.absolute()), str(features.stat().st_mtime_ns)]])
    else:
        from pipeline.images.gathering import gather_images

        origins = gather_images(paths, image_column)
        made_from["inputs"] = names_digest(origin.names for origin in origins)
    file = None if output is None else PredictionFile(output, made_from)
    done = 0 if file is None else file.done
    if features is not None:
        batches = predict_features(use.classifier, array.blocks(), array.rows, top, array.where, done)
    else:
        assert use.reader is not None
        batches = predict_images(use.classifier, use.reader, origins, top, done)
    if file is None:
        rows = [row for batch in batches for row in batch]
        broken = _say_broken(rows)
        show(
            {"predictions": [as_object(row) for row in rows], "broken": broken},
            as_json,
            [_line(row) for row in rows if row.classes],
        )
        return
    with on_interrupt(f"what is predicted is kept in {file.part}, the same command goes on from there"):
        for batch in batches:
            file.write(batch)
        broken = _say_broken(file.read())
        count = sum(1 for _ in file.read())
        file.publish(top)
    show(
        {"output": str(output), "rows": count, "broken": broken},
        as_json,
        [f"{count} predictions, {broken} images broken: {output}"],
    )


@dataclass(frozen=True)
class _Use:
    """What predicts: the classifier, what reads images for it, and what a file of predictions says that it came from."""

    classifier: "Classifies"
    reader: "Reads | None"
    classes: int
    made_from: dict[str, object]


def _run(folder: Path, reference: str | None, backbone: Path | None, of_images: bool, views: int | str) -> _Use:
    from pipeline.artefacts.folders import runs_folder
    from pipeline.predict import predictor_of
    from pipeline.predicting.encoder import encoder_of
    from pipeline.progress import note

    cache = cache_of(folder, reference) if of_images else _cache_at_hand(folder, reference)
    predictor = predictor_of(folder, cache)
    note(_calibration(predictor.temperature, cache))
    encoder = encoder_of(cache.manifest, runs_folder(), backbone) if of_images and cache is not None else None
    made_from = {"classifier": predictor.digest, "temperature": predictor.temperature}
    if views != 1 and encoder is not None and cache is not None:
        encoder = encoder.with_views(views, len(cache.views("test")) if "test" in cache.splits else 1)
        made_from["views"] = len(encoder.crops)
        note(f"probabilities are averaged over {len(encoder.crops)} views of each image")
    return _Use(predictor, encoder, len(predictor.classes), made_from)


def _model(path: Path, of_images: bool) -> _Use:
    """Raises DataError where the file takes features and images are given, or the reverse."""
    from pipeline.errors import DataError
    from pipeline.exporting.exported import read_exported

    model = read_exported(path)
    if of_images != (model.about.takes == "pixels"):
        remedy = "give images" if model.about.takes == "pixels" else "give features with --features FILE"
        raise DataError(f"{path}: this model takes {model.about.takes}; {remedy}")
    made_from = {"classifier": model.about.classifier, "model": path.suffix, "temperature": model.about.temperature}
    return _Use(model, model, len(model.classes), made_from)


def _cache_at_hand(folder: Path, reference: str | None) -> "FeatureCache | None":
    """As `cache_of`; None where the run's own is not in stores/ and none is named."""
    from cache.errors import CacheError
    from pipeline.errors import DataError

    try:
        return cache_of(folder, reference)
    except (CacheError, DataError):
        if reference:
            raise
        return None


def _features(path: Path):  # type: ignore[no-untyped-def]
    """The one array of features in a user's file."""
    from cache.exchange.formats import open_source
    from pipeline.errors import DataError

    arrays = [array for array in open_source(path).arrays if len(array.shape) == 2]
    if len(arrays) != 1:
        listed = ", ".join(str(array) for array in arrays) or "none"
        raise DataError(f"{path}: wanted one array of features (N, D), found {listed}; save that array alone")
    return arrays[0]


def _calibration(temperature: float, cache: "FeatureCache | None") -> str:
    if cache is not None and "val" in cache.splits:
        return f"probabilities are calibrated on val: logits are divided by {temperature:.2f}"
    why = "its cache is not at hand" if cache is None else "the cache has no val split"
    return f"probabilities are not calibrated: {why}"


def _say_broken(rows: "Iterable[Prediction]") -> int:
    from pipeline.progress import note

    count = 0
    for row in rows:
        if row.broken:
            count += 1
            if count <= NAMED:
                note(f"{row.name}: cannot be decoded ({row.broken})")
    if count > NAMED:
        note(f"{count - NAMED} more images cannot be decoded")
    return count


def _line(row: "Prediction") -> str:
    pairs = list(zip(row.classes, row.probabilities, strict=True))[:LIKELIEST]
    return f"{row.name}: " + ", ".join(f"{name} {100 * value:.1f} %" for name, value in pairs)
