"""Inspect: what a data set or a cache holds, and what is suspicious about it."""

import click

from pipeline.commands.options import Command, Options, common, target_argument
from pipeline.commands.output import show


@click.command(cls=Command)
@common
@target_argument
@click.option("--cache", "reference", help="Look at a cache's features: its folder, key, or start of its key.")
def inspect(options: Options, reference: str | None) -> None:
    """Look at images, or at a cache, before hours are spent: classes, long tail, sizes, and alarms. Writes nothing.

    CONFIG is a config's name or file. FOLDER and TABLE are images as they lie: folders of classes, splits in folders, CSV
    or Parquet. Every image is decoded once. Alarms do not change the exit code; read them with --json.
    """
    if reference is None and options.config is None:
        raise click.UsageError("a config, a folder or table of images, or --cache is wanted")
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import resolve_settings, resolved_with_cache
    from pipeline.inspect import inspect_cache, inspect_images
    from pipeline.report.inspection import inspection_text

    if reference is None:
        found = inspect_images(resolve_settings(options).settings)
    else:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        found = inspect_cache(cache, resolved.settings)
    show(found.model_dump(mode="json"), options.as_json, lambda: inspection_text(found))
