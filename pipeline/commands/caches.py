"""`coattail cache …`: look at caches, verify, compare, share, import, export, remove. None of it needs torch."""

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import Commands, Finite, Options, common, output_options
from pipeline.commands.output import show
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


@cache_group.command("ls")
@click.argument("place", required=False)
@click.option("--long", "whole_keys", is_flag=True, help="Whole keys.")
@output_options
def ls(place: str | None, whole_keys: bool, as_json: bool) -> None:
    """List the caches, the newest first, then what is half extracted, damaged, or a local copy.

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


@cache_group.command("push")
@click.argument("place", metavar="DEST")
@click.argument("references", metavar="[CACHE…]", nargs=-1)
@output_options
def push(place: str, references: tuple[str, ...], as_json: bool) -> None:
    """Copy caches to a folder, s3://, gs:// or az://BUCKET/FOLDER; by default the only one in stores/.

    The manifest goes last, so that others see a whole cache or none. Interrupted, the same command goes on.
    """
    from pipeline.commands import cache_text
    from pipeline.commands.cache_progress import push_shown

    references = references or (_only_one(),)
    pushed = [push_shown(cache_path(reference), whole_place(place)) for reference in references]
    show([asdict(shared) for shared in pushed], as_json, list(map(cache_text.shared, pushed)))


@cache_group.command("pull")
@click.argument("place", metavar="SOURCE")
@click.argument("references", metavar="CACHE…", nargs=-1, required=True)
@output_options
def pull(place: str, references: tuple[str, ...], as_json: bool) -> None:
    """Copy caches from a folder, s3://, gs:// or az://BUCKET/FOLDER into stores/, every digest compared on arrival.

    CACHE: a key, or the start of one. Interrupted, the same command goes on.
    """
    from pipeline.commands import cache_text
    from pipeline.commands.cache_progress import pull_shown

    pulled = [pull_shown(whole_place(place), reference, stores_path()) for reference in references]
    show([asdict(shared) for shared in pulled], as_json, list(map(cache_text.shared, pulled)))


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
    else:
        from pipeline.artefacts.folders import runs_folder
        from pipeline.commands.which_cache import resolve_settings
        from pipeline.stage1_identity import identity_wanted

        wanted = identity_wanted(resolve_settings(options).settings, runs_folder())
        fields, key = compare(first, wanted), wanted.key()
    lines = cache_text.differences(fields, first.key, key)
    show([asdict(difference) for difference in fields], options.as_json, lines)


@cache_group.command("rm")
@click.argument("references", metavar="CACHE…", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_options
def rm(references: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete published caches; one that somebody has open stays."""
    from cache.remove import rm as remove
    from pipeline.commands import cache_text

    paths = list(dict.fromkeys(cache_path(reference) for reference in references))
    if not yes:
        _confirm([str(path) for path in paths])
    removed = {str(path): remove(path) for path in paths}
    text = [cache_text.removal(path, removal) for path, removal in removed.items()]
    show({path: removal.bytes for path, removal in removed.items()}, as_json, text)


@cache_group.command("prune")
@click.option("--older-than", type=Finite(0), metavar="DAYS", help="Published caches older than this, too.")
@click.option("--keep", multiple=True, metavar="CACHE", help="Spare this one, whatever its age.")
@click.option("--yes", is_flag=True, help="Delete; without it the candidates are only listed.")
@output_options
def prune(older_than: float | None, keep: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """List what is damaged, or half extracted and untouched for a day; with --yes delete it."""
    from cache.prune import prune as candidates
    from pipeline.commands import cache_text

    stores = stores_path()
    spared = [cache_path(reference).name for reference in keep]
    offered = candidates(stores, None if older_than is None else older_than * DAY, spared, yes=yes)
    show([asdict(candidate) for candidate in offered], as_json, cache_text.candidates(offered, yes))


@cache_group.command("import")
@click.argument("sources", metavar="[SPLIT=]PATH…", nargs=-1, required=True)
@click.option("--labels", multiple=True, metavar="SPLIT=FILE", help="Labels that lie in a file of their own.")
@click.option("--ids", multiple=True, metavar="SPLIT=FILE", help="Sample ids that lie in a file of their own.")
@click.option("--classes", type=click.Path(path_type=Path), help="Class names in label order: .json, or a name a line.")
@click.option(
    "--classifier", type=click.Path(path_type=Path), help="weight (C, D) and bias (C,), which retrain starts from."
)
@click.option(
    "--column", "columns", multiple=True, metavar="ROLE=NAME", help="features=emb: what your arrays are called."
)
@click.option("--name", default="imported", show_default=True, help="What results call the data set.")
@click.option(
    "--test-share",
    type=Finite(0, 1, True, True),
    default=0.2,
    show_default=True,
    help="Held out where no test split is given.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is held out.")
@output_options
def import_(sources: tuple[str, ...], name: str, test_share: float, seed: int, as_json: bool, **options: Any) -> None:
    """Features from .npy, .npz, .safetensors, Parquet, or a folder of them, with labels -> a cache.

    \b
      coattail cache import train=train.npz test=test.npz --name mine
      coattail cache import train=x.npy --labels train=y.npy
      coattail cache import features.parquet
    """
    from pipeline import stage1_import

    request = stage1_import.request(sources, **options)
    imported = stage1_import.import_features(request, stores_path(), name, test_share, seed)
    show(stage1_import.document(imported), as_json, stage1_import.text(imported).split("\n"))


@cache_group.command("export")
@click.argument("reference", metavar="CACHE")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.")
@click.option("--view", "views", multiple=True, help="Only this view: clean, view-01, …; may be repeated.")
@output_options
def export(reference: str, destination: Path, splits: tuple[str, ...], views: tuple[str, ...], as_json: bool) -> None:
    """A cache -> DEST.npz, DEST.safetensors, DEST.parquet, or a folder of .npy files."""
    from pipeline.commands import cache_text
    from pipeline.commands.cache_progress import export_shown

    exported = export_shown(cache_path(reference), destination, splits, views)
    show(asdict(exported), as_json, [cache_text.exported(exported)])


def _only_one() -> str:
    from cache import catalog

    keys = [listing.key[:12] for listing in catalog.ls(stores_path()) if listing.state == "published"]
    if len(keys) != 1:
        raise click.UsageError(f"which cache? {stores_path()} has {', '.join(keys) or 'none'}; name it after DEST")
    return keys[0]


def _confirm(names: list[str]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"nobody to ask whether to delete {', '.join(names)}; give --yes")
    if not click.confirm(f"Delete {printable(', '.join(names))}?", err=True):
        raise PipelineError("nothing is deleted")


def cache_path(reference: str) -> Path:
    """The whole path of the cache that a folder, a key or the start of one names. Raises as `catalog.resolve` does."""
    from cache import catalog

    return catalog.resolve(stores_path(), reference).absolute()


def whole_place(place: str) -> str:
    """The place with the whole path of a folder; an address such as s3://BUCKET is whole."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


def stores_path() -> Path:
    """Where caches are; imported late, for `--help` does without."""
    from pipeline.artefacts.folders import stores_folder

    return stores_folder()
