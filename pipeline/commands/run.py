"""The commands that do all stages: demo, run."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from pipeline.commands.backbone_option import backbone_option, module_of, refuse_module
from pipeline.commands.done import say_if_done
from pipeline.commands.options import Command, Options, common, target_argument
from pipeline.commands.output import show
from pipeline.commands.planning import dry_run_option, show_cache_plan, show_images_plan
from pipeline.commands.reporting import report_of, report_option
from pipeline.commands.stage_options import cache_options, classifier_options, with_config, with_settings

if TYPE_CHECKING:
    from pipeline.compare import Comparison
    from pipeline.settings import Settings


@click.command(cls=Command)
@common
@click.option("--sample", help="Stages 2 and 3 only, on features that ship with coattail: cifar100-lt.")
@report_option
def demo(options: Options, sample: str | None, no_report: bool) -> None:
    """All three stages on embedded data, in about a minute; or, with --sample, on real features, in seconds."""
    options = replace(options, preset=("retrain.seeds=5",))
    if sample is None:
        _run(options if options.config is not None else replace(options, config="digits-lt"), None, not no_report)
        return
    from pipeline.commands.which_cache import sample_path

    _run(options, str(sample_path(sample)), not no_report)


@click.command(cls=Command)
@common
@target_argument
@backbone_option
@cache_options
@classifier_options
@report_option
@click.option(
    "--folds",
    type=click.IntRange(0, 100),
    metavar="K",
    help="Cross-validate stages 2 and 3 in K folds of all images; by default 5 where a held-out test split is tiny; 0: never.",
)
@dry_run_option
def run(
    options: Options,
    reference: str | None,
    no_report: bool,
    folds: int | None,
    dry_run: bool,
    **chosen: str | int | None,
) -> None:
    """All stages: backbone, cache, STG, and the method beside its baselines; with --cache, those that need no images.

    `coattail run photos/` takes the images in a folder or a table as they lie; with --backbone efficientnet-lite0, features
    come from a backbone that is good already, which is not trained.

    Without a test split, a share of each class is held out. Where classes are too small for that and the backbone has not seen
    the images, every image is tested once, by cross-validation.

    With --augmentation the trained head is compared with that one and with none, else with every augmentation.
    """
    if reference is not None and options.backbone is not None:
        raise click.UsageError("--cache and --backbone exclude each other: a cache's features are made already")
    if folds == 1:
        raise click.UsageError("--folds 1: wanted at least 2 folds, or 0 for none")
    options = with_settings(options if reference else with_config(options), chosen)
    if dry_run:
        _show_plan(options, reference, folds)
    else:
        _run(options, reference, not no_report, folds)


def _show_plan(options: Options, reference: str | None, folds: int | None) -> None:
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import resolve_settings, resolved_with_cache
    from pipeline.settings.used import check_compare

    if reference is None:
        refuse_module(options)
        resolved = resolve_settings(options)
        check_compare(resolved.settings, resolved.given, cached=False)
        show_images_plan(resolved.settings, options.as_json, folds=folds)
    else:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        check_compare(resolved.settings, resolved.given, cached=True)
        show_cache_plan(resolved.settings, cache, options.as_json, folds or 0)


def _run(options: Options, reference: str | None, with_report: bool, folds: int | None = None) -> None:
    comparison = _compared(options, reference, folds)
    if comparison is None:
        return
    from pipeline.report.tables import comparison_text

    if not options.as_json:
        show(None, False, comparison_text(comparison))
    # A report is of one cache's test split; folds are caches without files.
    path = report_of(comparison, reference) if with_report and not comparison.folds else None
    lines = [] if path is None else ["", f"report: {path}"]
    if comparison.folds:
        lines = [
            "",
            f"next, for a classifier to use: coattail retrain --cache {reference or comparison.cache[:12]} --head auto",
        ]
    show({**comparison.model_dump(), **({} if path is None else {"report": str(path)})}, options.as_json, lines)


def _compared(options: Options, reference: str | None, folds: int | None) -> "Comparison | None":
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
        comparison = pipeline.run(resolved.settings, stores_folder(), runs, augmentations, module_of(options), folds)
    else:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        check_compare(resolved.settings, resolved.given, cached=True)
        augmentations = _augmentations(resolved.settings, resolved.given)
        if folds:
            comparison = pipeline.run_folds(resolved.settings, cache, runs, folds, augmentations)
        else:
            comparison = pipeline.run_cache(resolved.settings, cache, runs, augmentations)
    say_if_done((runs / resolved.settings.name).glob("*/metrics.json"), started)
    return comparison


def _augmentations(settings: "Settings", given: tuple[str, ...]) -> tuple[str, ...] | None:
    """Those that the user wants compared; None: all."""
    if "retrain.augmentation" not in given:
        return None
    return tuple(dict.fromkeys(("none", settings.retrain.augmentation)))
