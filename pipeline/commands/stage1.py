"""The commands of stage 1, which alone reads images: train-backbone, extract."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.backbone_option import backbone_option, module_of, refuse_module
from pipeline.commands.done import say_if_done
from pipeline.commands.options import Command, Options, common
from pipeline.commands.output import show
from pipeline.commands.planning import dry_run_option, show_images_plan
from pipeline.commands.stage_options import with_config

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.command("train-backbone", cls=Command)
@common
@backbone_option
@click.option("--no-extract", is_flag=True, help="Train only; do not dump the features.")
@dry_run_option
def train_backbone(options: Options, no_extract: bool, dry_run: bool) -> None:
    """Stage 1: train the backbone, then dump every split's features into a cache."""
    started = time.time()
    settings = _stage1_settings(options)
    if dry_run:
        refuse_module(options)
        show_images_plan(settings, options.as_json, extracts=not no_extract, retrains=False)
        return
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import given, stage1

    if module := module_of(options):
        settings, backbone = given(settings, runs_folder(), module)
    else:
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
    say_if_done(proofs, started)
    figures = {key: f"{document[key]:.1f} %" for key in ("accuracy",) if key in document}
    lines = {key: document[key] for key in ("run", "path") if key in document} | figures
    show(document, options.as_json, [f"{key}: {value}" for key, value in lines.items()])


@click.command(cls=Command)
@common
@click.option(
    "--backbone",
    metavar="RUN|NAME",
    help="A stage-1 run folder, by default the config's own; or a ready-made backbone, as `run` takes it.",
)
@click.option(
    "--backbone-module", metavar="MODULE:ATTRIBUTE", help="Your own nn.Module, images to (B, D); runs its code."
)
@dry_run_option
def extract(options: Options, backbone: str | None, backbone_module: str | None, dry_run: bool) -> None:
    """Dump a frozen backbone's features of every split into a cache."""
    if backbone is not None and backbone_module is not None:
        raise click.UsageError("--backbone and --backbone-module exclude each other")
    folder = _run_folder(backbone)
    if dry_run and (folder is not None or backbone_module is not None):
        raise click.UsageError("--dry-run is for the config's own backbone; leave out --backbone and --backbone-module")
    started = time.time()
    options = replace(options, backbone=None if folder else backbone)
    settings = _stage1_settings(options)
    if dry_run:
        refuse_module(options)
        show_images_plan(settings, options.as_json, retrains=False)
        return
    from pipeline.artefacts.folders import runs_folder, stores_folder
    from pipeline.stage1_backbone import finished, given, stage1
    from pipeline.stage1_extract import extract as extract_features

    module = module_of(options) if backbone_module is None else backbone_module
    if module is not None:
        settings, run = given(settings, runs_folder(), module)
    elif options.backbone is not None and settings.stage1.epochs == 0:
        run = stage1(settings, runs_folder())  # nothing is trained: its weights are taken as they are
    else:
        run = finished(settings, runs_folder(), folder)
    path = extract_features(settings, run, stores_folder())
    if path is not None:
        say_if_done([path / "manifest.json"], started)
        show({"cache": path.name, "path": str(path)}, options.as_json, [str(path)])


def _run_folder(backbone: str | None) -> Path | None:
    """The folder that `extract --backbone` names; None for the name of a backbone, which is no path."""
    if backbone is None:
        return None
    path = Path(backbone).expanduser()
    is_path = path.is_dir() or (os.sep in backbone and ":" not in backbone.partition(os.sep)[0])
    return path.absolute() if is_path else None


def _stage1_settings(options: Options) -> "Settings":
    from pipeline.commands.which_cache import resolve_settings
    from pipeline.settings.used import check_stage1

    resolved = resolve_settings(with_config(options))
    check_stage1(resolved.settings, resolved.given)
    return resolved.settings
