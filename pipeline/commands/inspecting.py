"""Inspect: what a data set or a cache holds, and what is suspicious about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import Command, HomePath, Options, common, target_argument
from pipeline.commands.output import show

if TYPE_CHECKING:
    from cache import FeatureCache
    from pipeline.report.layout import Part
    from pipeline.settings import Settings


@click.command(cls=Command)
@common
@target_argument
@click.option("--cache", "reference", help="Look at a cache's features: its folder, key, or start of its key.")
@click.option(
    "--labels/--no-labels",
    default=None,
    help="With --cache: rank rows whose label may be wrong. By default where it takes about a minute or less.",
)
@click.option(
    "--html",
    "page",
    type=HomePath(),
    help="With --cache: write what was found in the labels to this file, with the images where they are at hand.",
)
def inspect(options: Options, reference: str | None, labels: bool | None, page: Path | None) -> None:
    """Look at images, or at a cache, before hours are spent: classes, long tail, sizes, and alarms. Writes --html alone.

    CONFIG is a config's name or file. FOLDER and TABLE are images as they lie: folders of classes, splits in folders, CSV
    or Parquet. Every image is decoded once. Alarms do not change the exit code; read them with --json.
    """
    if reference is None and options.config is None:
        raise click.UsageError("a config, a folder or table of images, or --cache is wanted")
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import resolve_settings, resolved_with_cache
    from pipeline.inspect import inspect_cache, inspect_images
    from pipeline.report.inspection import inspection_text
    from pipeline.settings.used import check_inspect

    document: dict[str, Any] = {}
    text: list[Part] = []
    if reference is None:
        if page:
            raise click.UsageError("--html is for --cache: it shows which labels of cached rows may be wrong")
        if labels:
            raise click.UsageError("--labels is for --cache: labels are judged by cached features")
        resolved = resolve_settings(options)
        check_inspect(resolved.settings, resolved.given, cached=False)
        seen = inspect_images(resolved.settings)
    else:
        resolved, cache = resolved_with_cache(options, reference, stores_folder())
        check_inspect(resolved.settings, resolved.given, cached=True)
        seen = inspect_cache(cache, resolved.settings)
        document, text = _labels(cache, resolved.settings, labels, page)
    show({**seen.model_dump(mode="json"), **document}, options.as_json, lambda: [*inspection_text(seen), *text])


def _labels(
    cache: "FeatureCache", settings: "Settings", wanted: bool | None, page: Path | None
) -> "tuple[dict[str, Any], list[Part]]":
    """What is said about the labels of a cache, as JSON and as text; nothing where it is not wanted. `page` is written."""
    from pipeline.errors import DataError
    from pipeline.inspecting.label_errors import is_quick, label_findings
    from pipeline.report.label_findings import findings_parts

    if page is not None:
        from pipeline.report.write import page_path

        if wanted is False:
            raise click.UsageError(
                "--html and --no-labels: the page shows what was found in the labels; give one of them"
            )
        page, wanted = page_path(page), True
    if wanted is None and not is_quick(cache):
        return {}, ["", "labels are not looked at, which takes long here; add --labels"]
    if wanted is False:
        return {}, []
    try:
        findings = label_findings(cache)
    except DataError as error:
        if wanted:
            raise
        return {}, ["", str(error)]
    document, text = {"labels": findings.model_dump(mode="json")}, findings_parts(findings)
    if page is None:
        return document, text
    from pipeline.report.label_page import label_page
    from pipeline.report.write import write_pages

    write_pages([label_page(cache, settings, findings)], page)
    return {**document, "html": str(page)}, [*text, "", f"labels: {page}"]
