"""The commands that work on a cache alone: train-stg (stage 2), retrain (stage 3), evaluate."""

import time
from dataclasses import replace
from pathlib import Path

import click

from pipeline.commands.done import say_if_done
from pipeline.commands.options import Command, HomePath, Options, common
from pipeline.commands.output import show
from pipeline.commands.planning import dry_run_option, show_retrain_plan, show_stg_plan
from pipeline.commands.run_cache import cache_of
from pipeline.commands.stage_options import (
    cache_options,
    classifier_options,
    config_or_cache,
    test_views_option,
    with_settings,
)


@click.command("train-stg", cls=Command)
@common
@cache_options
@dry_run_option
def train_stg(options: Options, reference: str | None, dry_run: bool) -> None:
    """Stage 2: learn the Semantic Transformation Generator on the head classes of a cache."""
    started = time.time()
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.settings.used import check_stages

    resolved, cache = resolved_with_cache(config_or_cache(options, reference), reference, stores_folder())
    check_stages(resolved.settings, resolved.given, reference is not None)
    if dry_run:
        show_stg_plan(resolved.settings, cache, options.as_json)
        return
    from pipeline.report.tables import distance_line
    from pipeline.stage2_stg import train_stg as train

    folder, result = train(resolved.settings, cache, runs_folder())
    say_if_done([folder / "metrics.json"], started)
    line = f"{len(result.head_classes)} head classes, {result.steps} steps, {result.seconds:.1f} s: {folder}"
    document = {"run": str(folder), **result.model_dump()}
    show(document, options.as_json, [line, distance_line(result.held_out)])


@click.command(cls=Command)
@common
@cache_options
@click.option("--stg", type=HomePath(), help="A stage-2 run folder; by default the settings' own.")
@classifier_options
@dry_run_option
def retrain(
    options: Options, reference: str | None, stg: Path | None, dry_run: bool, **chosen: str | int | None
) -> None:
    """Stage 3: retrain the classifier on a cache, the tail's features augmented."""
    started = time.time()
    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.classifiers import draws_at_random
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.settings.stage3 import TRAINED, uses_stg
    from pipeline.settings.used import check_retrain

    options = with_settings(config_or_cache(options, reference), chosen)
    resolved, cache = resolved_with_cache(options, reference, stores_folder())
    if stg is not None and not uses_stg(resolved.settings.retrain):
        raise click.UsageError(f"--stg is for --augmentation stg with a head that is trained: {', '.join(TRAINED)}")
    random = draws_at_random(resolved.settings, cache)
    check_retrain(resolved.settings, resolved.given, reference is not None, stg is not None, random)
    if dry_run:
        show_retrain_plan(resolved.settings, cache, stg and stg.absolute(), options.as_json)
        return
    from pipeline.report.tables import retrained_table

    folder, result = pipeline.retrain(resolved.settings, cache, runs_folder(), stg and stg.absolute())
    say_if_done([folder / "metrics.json"], started)
    document = {"run": str(folder), **result.model_dump()}
    show(document, options.as_json, [retrained_table(result, cache.manifest, folder)])


@click.command(cls=Command)
@common
@click.option("--run", "folder", required=True, type=HomePath(), help="A run folder of retrain.")
@click.option("--split", help="A split of its cache, or of --data: val, test, train.  [default: test]")
@click.option("--data", metavar="FOLDER|TABLE|CONFIG", help="Other labelled images, their classes found by name.")
@click.option("--cache", "reference", help="The cache, where it is not in stores/ under its key.")
@click.option("--backbone", type=HomePath(), help="With --data: the stage-1 run folder; by default the cache's own.")
@test_views_option
@click.option("--prior", help="Class shares to expect: train, uniform, a .json file, or 0.5,0.3,… in class order.")
def evaluate(
    options: Options,
    folder: Path,
    split: str | None,
    data: str | None,
    reference: str | None,
    backbone: Path | None,
    views: int | str,
    prior: str | None,
) -> None:
    """Figures of a finished classifier on a split of its cache, or on other labelled images with --data.

    Classes of other images are found by name; some of the classifier's may be missing there.
    """
    from pipeline.report.tables import retrained_table

    if data is not None and views != 1:
        raise click.UsageError("--test-views is for a split of the cache: of --data the clean view alone is made")
    if data is not None and options.config is not None:
        raise click.UsageError(f"--data {data} and --config {options.config}: give one of them")
    if data is None and (options.config or options.overrides or options.seed is not None):
        raise click.UsageError("--config, --set and --seed are for --data; of its own cache, a run's own settings hold")
    if data is not None:
        from pipeline.artefacts.folders import runs_folder
        from pipeline.commands.which_cache import resolve_settings
        from pipeline.evaluate_elsewhere import evaluate_images, labelled_images
        from pipeline.predicting.encoder import encoder_of

        cache = cache_of(folder, reference)
        images = labelled_images(resolve_settings(replace(options, config=data)).settings, cache.classes, split)
        encoder = encoder_of(cache.manifest, runs_folder(), backbone)
        elsewhere = evaluate_images(folder, cache, encoder, images, prior)
        table = retrained_table(elsewhere.result, cache.manifest, folder)
        show({"run": str(folder), "data": data, **elsewhere.document()}, options.as_json, [table, *elsewhere.lines()])
        return
    if backbone is not None:
        raise click.UsageError("--backbone is for --data")
    from pipeline.stage3_retrain import evaluate_run

    cache = cache_of(folder, reference)
    result = evaluate_run(folder, cache, split or "test", prior, views)
    show(
        {"run": str(folder), **result.model_dump()}, options.as_json, [retrained_table(result, cache.manifest, folder)]
    )
