"""Demo, run, train-backbone, extract, train-stg, retrain."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import Command, Options, common, target_argument
from pipeline.commands.output import show

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.settings import Settings


def cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cache`, by default the cache that the config's settings made."""
    return click.option("--cache", "reference", help="A cache's folder, key, start of its key, or s3://…/KEY.")(command)


def classifier_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those settings of stage 3 that have an option of their own."""
    from pipeline.settings.used import AUGMENTATIONS, HEADS

    command = click.option("--seeds", type=int, help="How many seeds to train side by side.")(command)
    command = click.option("--augmentation", help=f"{', '.join(AUGMENTATIONS)}.")(command)
    return click.option("--head", help=f"{', '.join(HEADS)}.")(command)


def _with(options: Options, chosen: dict[str, str | int | None]) -> Options:
    """The options with those of stage 3 that were given."""
    texts = tuple(f"retrain.{name}={value}" for name, value in chosen.items() if value is not None)
    return replace(options, chosen=texts)


@click.command(cls=Command)
@common
@click.option("--sample", help="Stages 2 and 3 only, on features that ship with coattail: cifar100-lt.")
def demo(options: Options, sample: str | None) -> None:
    """All three stages on embedded data, in about a minute; or, with --sample, on real features, in seconds."""
    options = replace(options, preset=("retrain.seeds=5",))
    if sample is None:
        _run(options if options.config is not None else replace(options, config="digits-lt"), None)
        return
    from pipeline.commands.which_cache import sample_path

    _run(options, str(sample_path(sample)))


@click.command(cls=Command)
@common
@target_argument
@cache_options
@classifier_options
def run(options: Options, reference: str | None, **chosen: str | int | None) -> None:
    """All stages: backbone, cache, STG, and the method beside its baselines; with --cache, those that need no images.

    `coattail run photos/` takes the images in a folder or a table as they lie.

    With --augmentation the trained head is compared with that one and with none, else with every augmentation.
    """
    _run(_with(options if reference else _wanted(options), chosen), reference)


@click.command("train-backbone", cls=Command)
@common
@click.option("--no-extract", is_flag=True, help="Train only; do not dump the features.")
def train_backbone(options: Options, no_extract: bool) -> None:
    """Stage 1: train the backbone, then dump every split's features into a cache."""
    started = time.time()
    settings = _stage1_settings(options)
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import stage1

    backbone = stage1(settings, runs_folder())
    document: dict[str, Any] = {"run": str(backbone.folder), **backbone.metrics}
    proofs = [backbone.folder / "metrics.json"]
    if not no_extract:
        from pipeline.stage1_extract import extract as extract_features

        path = extract_features(settings, backbone, stores_folder())
        if path is None:  # another process prints
            return
        document |= {"cache": path.name, "path": str(path)}
        proofs.append(path / "manifest.json")
    _say_if_done(proofs, started)
    figures = {key: f"{document[key]:.1f} %" for key in ("accuracy",) if key in document}
    lines = {key: document[key] for key in ("run", "path") if key in document} | figures
    show(document, options.as_json, [f"{key}: {value}" for key, value in lines.items()])


@click.command(cls=Command)
@common
@click.option("--backbone", type=click.Path(path_type=Path), help="A stage-1 run folder; by default the config's own.")
@click.option(
    "--backbone-module", metavar="MODULE:ATTRIBUTE", help="Your own nn.Module, images to (B, D); runs its code."
)
def extract(options: Options, backbone: Path | None, backbone_module: str | None) -> None:
    """Dump a frozen backbone's features of every split into a cache."""
    if backbone is not None and backbone_module is not None:
        raise click.UsageError("--backbone and --backbone-module exclude each other")
    started = time.time()
    settings = _stage1_settings(options)
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import finished, given
    from pipeline.stage1_extract import extract as extract_features

    if backbone_module is not None:
        settings, run = given(settings, runs_folder(), backbone_module)
    else:
        run = finished(settings, runs_folder(), backbone and backbone.absolute())
    path = extract_features(settings, run, stores_folder())
    if path is not None:
        _say_if_done([path / "manifest.json"], started)
        show({"cache": path.name, "path": str(path)}, options.as_json, [str(path)])


@click.command("train-stg", cls=Command)
@common
@cache_options
def train_stg(options: Options, reference: str | None) -> None:
    """Stage 2: learn the Semantic Transformation Generator on the head classes of a cache."""
    started = time.time()
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.settings.used import check_stages

    resolved, cache = resolved_with_cache(_config_or_cache(options, reference), reference, stores_folder())
    check_stages(resolved.settings, resolved.given, reference is not None)
    from pipeline.report.tables import distance_line
    from pipeline.stage2_stg import train_stg as train

    folder, result = train(resolved.settings, cache, runs_folder())
    _say_if_done([folder / "metrics.json"], started)
    line = f"{len(result.head_classes)} head classes, {result.steps} steps, {result.seconds:.1f} s: {folder}"
    document = {"run": str(folder), **result.model_dump()}
    show(document, options.as_json, [line, distance_line(result.held_out)])


@click.command(cls=Command)
@common
@cache_options
@click.option("--stg", type=click.Path(path_type=Path), help="A stage-2 run folder; by default the settings' own.")
@classifier_options
def retrain(options: Options, reference: str | None, stg: Path | None, **chosen: str | int | None) -> None:
    """Stage 3: retrain the classifier on a cache, the tail's features augmented."""
    started = time.time()
    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolved_with_cache
    from pipeline.settings.stage3 import uses_stg
    from pipeline.settings.used import check_retrain

    options = _with(_config_or_cache(options, reference), chosen)
    resolved, cache = resolved_with_cache(options, reference, stores_folder())
    if stg is not None and not uses_stg(resolved.settings.retrain):
        raise click.UsageError("--stg is for --augmentation stg with a head that is trained: crt, lws or generalized")
    check_retrain(resolved.settings, resolved.given, reference is not None, stg is not None)
    from pipeline.report.tables import retrained_table

    folder, result = pipeline.retrain(resolved.settings, cache, runs_folder(), stg and stg.absolute())
    _say_if_done([folder / "metrics.json"], started)
    document = {"run": str(folder), **result.model_dump()}
    show(document, options.as_json, [retrained_table(result, cache.manifest, folder)])


@click.command(cls=Command)
@common
@click.option("--run", "folder", required=True, type=click.Path(path_type=Path), help="A run folder of retrain.")
@click.option("--split", default="test", show_default=True, help="A split of its cache: val, test, train.")
@click.option("--cache", "reference", help="The cache, where it is not in stores/ under its key.")
def evaluate(options: Options, folder: Path, split: str, reference: str | None) -> None:
    """Figures of a finished classifier on a split of its cache."""
    from cache import FeatureCache, catalog
    from pipeline.artefacts.folders import read_result, stores_folder
    from pipeline.report.tables import retrained_table
    from pipeline.stage3_retrain import RetrainResult, evaluate_run

    wanted = reference or read_result(folder, RetrainResult).cache
    cache = FeatureCache.open(catalog.resolve(stores_folder(), wanted))
    result = evaluate_run(folder, cache, split)
    show(
        {"run": str(folder), **result.model_dump()}, options.as_json, [retrained_table(result, cache.manifest, folder)]
    )


def _run(options: Options, reference: str | None) -> None:
    comparison = _compared(options, reference)
    if comparison is None:
        return
    from pipeline.report.tables import comparison_text

    show(comparison.model_dump(), options.as_json, comparison_text(comparison))


def _compared(options: Options, reference: str | None) -> "Comparison | None":
    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.commands.which_cache import resolve_settings, resolved_with_cache
    from pipeline.settings.used import check_compare

    started = time.time()
    runs = runs_folder()
    if reference is None:
        resolved = resolve_settings(options)
        check_compare(resolved.settings, resolved.given, cached=False)
        augmentations = _augmentations(resolved.settings, resolved.given)
        comparison = pipeline.run(resolved.settings, stores_folder(), runs, augmentations)
    else:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        check_compare(resolved.settings, resolved.given, cached=True)
        augmentations = _augmentations(resolved.settings, resolved.given)
        comparison = pipeline.run_cache(resolved.settings, cache, runs, augmentations)
    _say_if_done((runs / resolved.settings.name).glob("*/metrics.json"), started)
    return comparison


def _augmentations(settings: "Settings", given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Those that the user wants compared; None: all."""
    if "retrain.augmentation" not in given:
        return None
    return tuple(dict.fromkeys(("none", settings.retrain.augmentation)))


def _say_if_done(proofs: Iterable[Path], started: float) -> None:
    """Say that nothing was to be done where all the files that prove finished work are older than this command."""
    from pipeline.progress import note

    times = {path: path.stat().st_mtime for path in proofs}
    if not times or max(times.values()) >= started:
        return
    newest = max(times, key=lambda path: times[path])
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(times[newest]))
    note(f"coattail: done already: {newest.parent}, from {when}")


def _wanted(options: Options) -> Options:
    if options.config is None:
        from pipeline.settings.files import available, methods

        raise click.UsageError(
            f"--config is wanted: a path to a TOML file, or one of {', '.join(available())}; "
            f"perhaps with +METHOD: {', '.join(methods())}"
        )
    return options


def _config_or_cache(options: Options, reference: str | None) -> Options:
    if options.config is None and reference is None:
        raise click.UsageError("--config or --cache is wanted: which features to train on")
    return options


def _stage1_settings(options: Options) -> "Settings":
    from pipeline.commands.which_cache import resolve_settings
    from pipeline.settings.used import check_stages

    resolved = resolve_settings(_wanted(options))
    check_stages(resolved.settings, resolved.given, cached=False)
    return resolved.settings
