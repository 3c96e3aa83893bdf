"""The commands that copy a cache or turn it into files and back: push, pull, import, export."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.commands.options import Command, Finite, HomePath, output_options
from pipeline.commands.output import show
from pipeline.commands.places import cache_path, stores_path, whole_place


@click.command("push", cls=Command)
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


@click.command("pull", cls=Command)
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


@click.command("import", cls=Command)
@click.argument("sources", metavar="[SPLIT=]PATH…", nargs=-1, required=True)
@click.option("--labels", multiple=True, metavar="SPLIT=FILE", help="Labels that lie in a file of their own.")
@click.option("--ids", multiple=True, metavar="SPLIT=FILE", help="Sample ids that lie in a file of their own.")
@click.option("--classes", type=HomePath(), help="Class names in label order: .json, or a name a line.")
@click.option("--classifier", type=HomePath(), help="weight (C, D) and bias (C,), which retrain starts from.")
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


@click.command("export", cls=Command)
@click.argument("reference", metavar="CACHE")
@click.argument("destination", metavar="DEST", type=HomePath())
@click.option("--split", "splits", multiple=True, help="Only this split; may be repeated.")
@click.option("--view", "views", multiple=True, help="Only this view: clean, view-01, …, maps; may be repeated.")
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
