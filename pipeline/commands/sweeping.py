"""Sweep."""

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.commands.done import say_if_done
from pipeline.commands.exports import Exports, export_options
from pipeline.commands.options import Choice, Command, HomePath, Options, common
from pipeline.commands.output import show
from pipeline.report.layout import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cache import FeatureCache
    from pipeline.settings.load import Resolved
    from pipeline.sweeping.plan import GridPoint, SweepFile
    from pipeline.sweeping.record import SweepResult

SELECTIONS = ("auto", "val", "cross-validation", "test")


@click.command(cls=Command)
@click.argument("file", type=HomePath())
@common
@click.option("--cache", "reference", help="A cache's folder, key, start of its key, or s3://…/KEY.")
@click.option("--jobs", type=click.IntRange(1, 1024), default=1, show_default=True, help="Processes at once.")
@click.option(
    "--backend",
    type=Choice(["joblib", "dask"]),
    default="joblib",
    show_default=True,
    help="Processes of this machine, or a Dask cluster, whose workers need the cache's address alone.",
)
@click.option("--scheduler", metavar="ADDRESS", help="Of the Dask cluster: tcp://HOST:PORT.")
@click.option(
    "--select-on",
    type=Choice(SELECTIONS),
    default="auto",
    show_default=True,
    help="What the best point is chosen on; auto: val, else cross-validation where the backbone never saw the rows. test is "
    "for comparison with numbers that were chosen so, and says so.",
)
@click.option(
    "--keep-going/--fail-fast", default=True, show_default=True, help="What a point that fails does to the others."
)
@export_options("csv", "parquet", "md", "latex")
def sweep(
    file: Path,
    options: Options,
    reference: str | None,
    jobs: int,
    backend: str,
    scheduler: str | None,
    select_on: str,
    keep_going: bool,
    csv: str | None,
    parquet: str | None,
    md: str | None,
    latex: str | None,
) -> None:
    """Every combination of the settings that a TOML FILE lists, those of one shape side by side; the best chosen without test.

    In FILE a list is values to try: strength = [0.5, 1, 1.5] under [retrain]; so is a range, { from = 0, to = 7 } or
    { from = 1e-4, to = 1e-2, steps = 3, scale = "log" }. At its top may stand config, cache and methods = ["crt", "crt+stg"].
    A point is a run folder; the same command goes on after an interruption.
    """
    exports = Exports.of(options.as_json, csv=csv, parquet=parquet, md=md, latex=latex)
    from pipeline.artefacts.folders import runs_folder
    from pipeline.sweep import Sweep, choose_on
    from pipeline.sweep import sweep as run_sweep
    from pipeline.sweeping.plan import read_sweep
    from pipeline.sweeping.spread import Workers, check_workers

    workers = Workers(jobs, backend, scheduler)
    check_workers(workers)
    swept = read_sweep(file)
    reference = reference or swept.cache
    options = options if options.config is not None else replace(options, config=swept.config)
    if reference is None and options.config is None:
        raise click.UsageError("--cache or --config is wanted, or one of them in the file: which features to train on")
    root = runs_folder()
    jobs_by_cache = [
        Sweep(swept, points, cache, reference or str(cache.path), root, workers, select_on, not keep_going)
        for cache, points in _points_by_cache(options, reference, swept, root)
    ]
    for each in jobs_by_cache:
        choose_on(each.select_on, each.cache)  # what cannot be chosen on is refused before the training
    started = time.time()
    results = [run_sweep(each) for each in jobs_by_cache]
    folders = (folder for _, result in results for place in result.places for folder in place.runs)
    say_if_done((Path(folder) / "metrics.json" for folder in folders), started)
    _show(results, options, exports)
    if any(result.failures for _, result in results):
        raise SystemExit(1)


def _points_by_cache(
    options: Options, reference: str | None, swept: "SweepFile", root: Path
) -> "list[tuple[FeatureCache, list[GridPoint]]]":
    """The points on the cache that is named; without one, those of each stage 1 and seed on the cache that it makes."""
    import pipeline
    from pipeline.artefacts.folders import key_of, stores_folder
    from pipeline.commands.which_cache import MADE_BY, resolve_settings, resolved_with_cache
    from pipeline.settings.made_by import DRAW, FROM_IMAGES
    from pipeline.settings.used import check_stages
    from pipeline.sweeping.plan import points

    if reference is not None:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        made_already = [key for key in swept.axes if key.partition(".")[0] in FROM_IMAGES or key in DRAW]
        check_stages(resolved.settings, made_already, cached=True)
        swept_points = points(swept, resolved.settings)
        _check_given(resolved, swept_points, swept, cached=True)
        return [(cache, swept_points)]
    resolved = resolve_settings(options)
    groups: dict[str, list[GridPoint]] = {}
    swept_points = points(swept, resolved.settings)
    _check_given(resolved, swept_points, swept, cached=False)
    for point in swept_points:
        made_by = point.settings.model_dump(mode="json", include=set(MADE_BY))
        groups.setdefault(key_of(**made_by), []).append(point)
    results = []
    for group in groups.values():
        made = pipeline.make_features(group[0].settings, stores_folder(), root)
        if made is not None:
            results.append((made, group))
    return results


def _check_given(resolved: "Resolved", points: "Sequence[GridPoint]", swept: "SweepFile", cached: bool) -> None:
    from pipeline.settings.used import check_points
    from pipeline.sweeping.plan import METHOD

    of_method = ("retrain.head", "retrain.augmentation") if METHOD in swept.axes else ()
    settings = [point.settings for point in points]
    check_points(settings, resolved.given, cached, [*swept.axes, *of_method], str(swept.path))


def _show(results: "list[tuple[Path, SweepResult]]", options: Options, exports: Exports) -> None:
    import polars as pl

    from pipeline.report.swept import sweep_lines, sweep_table

    parts: list[Part] = []
    for folder, result in results:
        parts += [*sweep_lines(result, str(folder)), ""]
    frames = [pl.read_parquet(folder / "results.parquet") for folder, _ in results]
    exports.write(pl.concat(frames), sweep_table(results[0][1]))
    documents = [{"folder": str(folder), **result.model_dump()} for folder, result in results]
    if not exports.take_stdout:
        show(documents[0] if len(documents) == 1 else {"sweeps": documents}, options.as_json, parts[:-1])
