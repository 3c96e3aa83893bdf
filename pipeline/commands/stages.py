"""Demo, run, train-backbone, extract, train-stg, retrain."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import common, show

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.compare import Comparison
    from pipeline.settings import Settings


def cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cache`, by default the cache that the config's settings made."""
    return click.option("--cache", "reference", help="A cache's folder, key, start of its key, or s3://…/KEY.")(command)


@click.command()
@common
@click.option("--sample", help="Stages 2 and 3 only, on features that ship with coattail: cifar100-lt.")
def demo(config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, sample: str | None) -> None:
    """All three stages on embedded data, in about a minute; or, with --sample, on real features, in seconds."""
    overrides = ("retrain.seeds=5", *overrides)
    if sample is None:
        _run(config or "digits-lt", overrides, seed, as_json)
        return
    from pipeline.commands.which_cache import sample_path

    _run(config, overrides, seed, as_json, str(sample_path(sample)))


@click.command()
@common
@cache_options
def run(config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, reference: str | None) -> None:
    """All stages: backbone, cache, STG, and the method beside its baselines; with --cache, those that need no images."""
    _run(config if reference else _wanted(config), overrides, seed, as_json, reference)


@click.command("train-backbone")
@common
@click.option("--no-extract", is_flag=True, help="Train only; do not dump the features.")
def train_backbone(
    config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, no_extract: bool
) -> None:
    """Stage 1: train the backbone, then dump every split's features into a cache."""
    settings = _settings(_wanted(config), overrides, seed)
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import stage1

    backbone = stage1(settings, runs_folder())
    document: dict[str, Any] = {"run": str(backbone.folder), **backbone.metrics}
    if not no_extract:
        from pipeline.stage1_extract import extract as extract_features

        path = extract_features(settings, backbone, stores_folder())
        if path is None:  # another process prints
            return
        document |= {"cache": path.name, "path": str(path)}
    show(
        document,
        as_json,
        "\n".join(f"{key}: {document[key]}" for key in ("run", "accuracy", "path") if key in document),
    )


@click.command()
@common
@click.option("--backbone", type=click.Path(path_type=Path), help="A stage-1 run folder; by default the config's own.")
@click.option(
    "--backbone-module", metavar="MODULE:ATTRIBUTE", help="Your own nn.Module, images to (B, D); runs its code."
)
def extract(
    config: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    backbone: Path | None,
    backbone_module: str | None,
) -> None:
    """Dump a frozen backbone's features of every split into a cache."""
    settings = _settings(_wanted(config), overrides, seed)
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import finished, given
    from pipeline.stage1_extract import extract as extract_features

    if backbone_module is not None:
        settings, run = given(settings, runs_folder(), backbone_module)
    else:
        run = finished(settings, runs_folder(), backbone)
    path = extract_features(settings, run, stores_folder())
    if path is not None:
        show({"cache": path.name, "path": str(path)}, as_json, str(path))


@click.command("train-stg")
@common
@cache_options
def train_stg(
    config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, reference: str | None
) -> None:
    """Stage 2: learn the Semantic Transformation Generator on the head classes of a cache."""
    settings, cache = _settings_and_cache(config, overrides, seed, reference)
    from pipeline.artefacts.folders import runs_folder
    from pipeline.report.tables import distance_line
    from pipeline.stage2_stg import train_stg as train

    folder, result = train(settings, cache, runs_folder())
    text = f"{len(result.head_classes)} head classes, {result.steps} steps, {result.seconds:.1f} s: {folder}"
    show({"run": str(folder), **result.model_dump()}, as_json, f"{text}\n{distance_line(result.held_out)}")


@click.command()
@common
@cache_options
@click.option("--stg", type=click.Path(path_type=Path), help="A stage-2 run folder; by default the settings' own.")
@click.option("--head", help="crt, lws, generalized; stage1, logit-adjustment, tau-norm, ncm.")
@click.option("--augmentation", help="stg, closed-form, none, dropout, noise.")
@click.option("--seeds", type=int, help="How many seeds to train side by side.")
def retrain(
    config: str | None,
    overrides: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    reference: str | None,
    stg: Path | None,
    **options: str | int | None,
) -> None:
    """Stage 3: retrain the classifier on a cache, the tail's features augmented."""
    chosen = tuple(f"retrain.{name}={value}" for name, value in options.items() if value is not None)
    settings, cache = _settings_and_cache(config, overrides + chosen, seed, reference)
    import pipeline
    from pipeline.artefacts.folders import runs_folder
    from pipeline.report.tables import retrained_table
    from pipeline.settings.stage3 import uses_stg

    if stg is not None and not uses_stg(settings.retrain):
        raise click.UsageError("--stg is for --augmentation stg with a head that is trained: crt, lws or generalized")
    folder, result = pipeline.retrain(settings, cache, runs_folder(), stg)
    show({"run": str(folder), **result.model_dump()}, as_json, retrained_table(result, cache.manifest, folder))


def _run(
    config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, reference: str | None = None
) -> None:
    comparison = _compared(config, overrides, seed, reference)
    if comparison is None:
        return
    from pipeline.report.tables import comparison_text

    show(comparison.model_dump(), as_json, comparison_text(comparison))


def _compared(
    config: str | None, overrides: tuple[str, ...], seed: int | None, reference: str | None
) -> "Comparison | None":
    import pipeline
    from pipeline.artefacts.folders import runs_folder, stores_folder

    if reference is None:
        settings = _settings(config, overrides, seed)
        return pipeline.run(settings, stores_folder(), runs_folder())
    settings, cache = _settings_and_cache(config, overrides, seed, reference)
    return pipeline.run_cache(settings, cache, runs_folder())


def _wanted(config: str | None) -> str:
    if config is None:
        from pipeline.settings.files import available, methods

        raise click.UsageError(
            f"--config is wanted: a path to a TOML file, or one of {', '.join(available())}; "
            f"perhaps with +METHOD: {', '.join(methods())}"
        )
    return config


def _settings(config: str | None, overrides: tuple[str, ...], seed: int | None) -> "Settings":
    from pipeline.settings.load import load

    return load(config, overrides, seed).settings


def _settings_and_cache(
    config: str | None, overrides: tuple[str, ...], seed: int | None, reference: str | None
) -> "tuple[Settings, FeatureCache]":
    if config is None and reference is None:
        raise click.UsageError("--config or --cache is wanted: which features to train on")
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import settings_and_cache

    return settings_and_cache(config, overrides, seed, reference, stores_folder())
