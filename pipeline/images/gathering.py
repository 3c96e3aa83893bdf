"""Images that a user names on the command line: files, folders, globs and Parquet files, without labels."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cache.parquet import foreign
from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.sources.folder import SUFFIXES
from pipeline.images.sources.parquet_images import RATIO, UNREADABLE, ImageColumn
from pipeline.longtail import Rows

PARQUET = ".parquet"


@dataclass(frozen=True)
class Named:
    """Images of one origin: a name each, and `take(rows)` for the images of some of them."""

    names: Sequence[str]
    take: Callable[[Rows], Sequence[Item]]


def gather_images(paths: Sequence[str], image_column: str = "image") -> list[Named]:
    """What the paths name, in their order; a folder's images at any depth, sorted by name.

    Raises DataError for a path that is not there, that holds no image, or a Parquet file without the column.
    """
    return [origin for text in paths for origin in _origins(text, image_column)]


def _origins(text: str, image_column: str) -> Iterator[Named]:
    path = Path(text).expanduser()
    if path.is_dir():
        yield _files(text, sorted(_images_below(path)))
        return
    if path.is_file():
        yield _parquet(path, image_column) if path.suffix.lower() == PARQUET else _files(text, [path])
        return
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(str(path)) else []
    if not matches:
        raise DataError(f"{text}: no such file or folder; wanted images, folders of images, globs or Parquet files")
    for match in matches:
        yield from _origins(glob.escape(match) if not os.path.exists(match) else match, image_column)


def _images_below(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(where) / name


def _files(text: str, files: Sequence[Path]) -> Named:
    if not files:
        raise DataError(f"{text}: no image there; wanted files that end with {', '.join(sorted(SUFFIXES))}")
    return Named([str(path) for path in files], lambda rows: [files[row] for row in rows])


def _parquet(path: Path, image_column: str) -> Named:
    try:
        foreign.check(path, RATIO)
        schema = pl.read_parquet_schema(path)
        rows = pl.scan_parquet(path, glob=False).select(pl.len()).collect().item()
    except (OSError, *UNREADABLE) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    columns = ImageColumn.expressions(image_column, schema[image_column]) if image_column in schema else None
    if columns is None:
        raise DataError(
            f"{path}: wanted a column {image_column!r} of bytes, paths or {{bytes, path}}, found {', '.join(schema)}; "
            "name it with --image-column"
        )
    column = ImageColumn(str(path), (path,), (rows,), (columns,), None)
    return Named([f"{path}#{row}" for row in range(rows)], lambda wanted: column.take(np.asarray(wanted)))
