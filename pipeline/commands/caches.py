"""`coattail cache …`: list, show, verify, compare, remove; and the group that holds all its commands. Imports no torch."""

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.commands.cache_exchange import export, import_, pull, push
from pipeline.commands.options import Commands, Finite, Options, common, output_options
from pipeline.commands.output import show
from pipeline.commands.places import cache_path, stores_path, whole_place
from pipeline.errors import PipelineError
from pipeline.report.printable import printable

if TYPE_CHECKING:
    from pipeline.report.layout import Part

DAY = 86_400.0


@click.group("cache", cls=Commands)
def cache_group() -> None:
    """Feature caches: list, verify, share, import, remove.

    A cache is named by its folder, its key, or the start (4 digits or more) of its key.
    """


for command in (push, pull, import_, export):
    cache_group.add_command(command)


@cache_group.command("ls")
@click.argument("place", required=False)
@click.option("--long", "whole_keys", is_flag=True, help="Whole keys.")
@output_options
def ls(place: str | None, whole_keys: bool, as_json: bool) -> None:
    """List the caches, the newest first, then what is half extracted, damaged, a local copy, or decoded images.

    PLACE: a folder, s3://, gs:// or az://BUCKET/FOLDER; by default stores/ (or $COATTAIL_STORES).
    """
    if place is None:
        from cache import catalog

        where = str(stores_path())
        listings = catalog.ls(stores_path())
    else:
        from cache import sharing
        from cache.sharing import offers

        where = whole_place(place)
        listings = offers.ls(sharing.at(where))

    def table() -> "list[Part]":
        from pipeline.commands import cache_text

        return cache_text.listings(listings, where, time.time(), whole_keys)

    show([asdict(listing) for listing in listings], as_json, table)


@cache_group.command("show")
@click.argument("reference", metavar="CACHE")
@output_options
def show_one(reference: str, as_json: bool) -> None:
    """What a cache holds and what it was made from."""
    from cache import catalog
    from pipeline.commands import cache_text

    path = cache_path(reference)
    manifest = catalog.read_manifest(path)
    show(cache_text.document(manifest, path), as_json, cache_text.description(manifest, path))


@cache_group.command("verify")
@click.argument("references", metavar="CACHE…", nargs=-1, required=True)
@click.option("--quick", is_flag=True, help="Manifest, list of files and their sizes only.")
@click.option("--full", is_flag=True, help="Every byte of every file (the default).")
@click.option("--subset", metavar="I/N", help="As --full, with the I-th of N parts of the chunks.")
@output_options
def verify(references: tuple[str, ...], quick: bool, full: bool, subset: str | None, as_json: bool) -> None:
    """Compare caches with their manifests; what is wrong is named with its file and rows, and the exit code is 1."""
    if quick + full + (subset is not None) > 1:
        raise click.UsageError("--quick, --full and --subset exclude each other")
    from pipeline.commands import cache_text
    from pipeline.commands.cache_progress import verify_shown

    paths = [cache_path(reference) for reference in references]
    results = [verify_shown(path, quick, subset) for path in paths]
    lines = [line for result in results for line in cache_text.verification(result)]
    show([asdict(result) | {"sound": result.sound} for result in results], as_json, lines)
    if not all(result.sound for result in results):
        raise SystemExit(1)


@cache_group.command("explain")
@click.argument("left", metavar="CACHE")
@click.argument("right", metavar="[CACHE]", required=False)
@common
def explain(left: str, right: str | None, options: Options) -> None:
    """In which fields two caches, or a cache and what --config would extract, differ.

    Fields that make another key come first, then, of two caches, where they come from.
    """
    if (right is None) == (options.config is None):
        raise click.UsageError("another cache or --config is wanted, one of the two")
    if right is not None and (options.overrides or options.seed is not None):
        raise click.UsageError("--set and --seed have no effect on a cache; they go with --config")
    from cache import catalog
    from cache.explain import explain as compare
    from pipeline.commands import cache_text

    first = catalog.read_manifest(cache_path(left))
    if right is not None:
        other = catalog.read_manifest(cache_path(right))
        fields, key = compare(first, other), other.key
        imported = {first.identity.kind, other.identity.kind} == {"imported"}
    else:
        from pipeline.artefacts.folders import runs_folder
        from pipeline.commands.which_cache import resolve_settings
        from pipeline.stage1_identity import identity_wanted

        wanted = identity_wanted(resolve_settings(options).settings, runs_folder())
        fields, key, imported = compare(first, wanted), wanted.key(), False
    lines = cache_text.differences(fields, first.key, key, imported)
    show([asdict(difference) for difference in fields], options.as_json, lines)


@cache_group.command("rm")
@click.argument("references", metavar="CACHE…", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
def rm(references: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete published caches; one that somebody has open stays."""
    from cache.remove import rm as remove
    from pipeline.commands import cache_text

    if remote := [reference for reference in references if "://" in reference]:
        raise click.UsageError(
            f"{remote[0]}: caches on this machine are deleted; for one in a bucket, use the store's own tools"
        )
    paths = list(dict.fromkeys(cache_path(reference) for reference in references))
    if not yes:
        _confirm([str(path) for path in paths])
    removed = {str(path): remove(path) for path in paths}
    text = [cache_text.removal(path, removal) for path, removal in removed.items()]
    show({path: removal.bytes for path, removal in removed.items()}, as_json, text)


@cache_group.command("prune")
@click.option(
    "--older-than",
    type=Finite(0),
    metavar="DAYS",
    help="Published caches older than this, too; and decoded images unused for this long, in place of a week.",
)
@click.option("--keep", multiple=True, metavar="CACHE", help="Spare this one, whatever its age.")
@click.option("--yes", is_flag=True, help="Delete; without it the candidates are only listed.")
@output_options
def prune(older_than: float | None, keep: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """List what may be deleted; with --yes delete it.

    That is what is damaged, what is half extracted and untouched for a day, decoded images that were not used for a week, and
    what killed runs left.
    """
    from cache.prune import prune as candidates
    from pipeline.artefacts.folders import runs_folder
    from pipeline.artefacts.leftovers import prune_runs
    from pipeline.commands import cache_text

    stores = stores_path()
    spared = [cache_path(reference).name for reference in keep]
    offered = candidates(stores, None if older_than is None else older_than * DAY, spared, yes=yes)
    offered += prune_runs(runs_folder(), yes)
    show([asdict(candidate) for candidate in offered], as_json, cache_text.candidates(offered, yes))


def _confirm(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody to ask whether to delete {', '.join(names)}; give --yes")
    if not click.confirm(f"Delete {printable(', '.join(names))}?", err=True):
        raise PipelineError("nothing is deleted")
