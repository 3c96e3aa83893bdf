"""The images of Parquet files: encoded bytes in a column, or paths of image files beside the Parquet file."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cache.parquet import foreign, pages
from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.listing import listed
from pipeline.images.sources.source import leads_outside
from pipeline.longtail import Rows

RATIO = 64
"""Decoded bytes that each byte of the file may become: encoded images hardly compress further."""
UNREADABLE = (pages.Unfit, pl.exceptions.PolarsError, pl.exceptions.PanicException)
NAMED_MISSING = 5


def read_column(path: Path, expression: pl.Expr) -> pl.Series:
    """One column. Raises DataError for a file that cannot be read."""
    try:
        return pl.scan_parquet(path, glob=False).select(expression.alias("found")).collect()["found"]
    except (OSError, *UNREADABLE) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); fetch the file again"
        ) from None


Columns = tuple[pl.Expr | None, pl.Expr | None]
"""Where a file keeps encoded images, and where paths of images."""


@dataclass(frozen=True)
class ImageColumn:
    """Where the images of one split are: its files, their numbers of rows, and their columns with images."""

    key: str
    files: tuple[Path, ...]
    lengths: tuple[int, ...]
    columns: tuple[Columns, ...]
    root: Path | None
    """Folder that the paths start from; None: that of the Parquet file."""

    @staticmethod
    def expressions(column: str, dtype: pl.DataType) -> Columns | None:
        """Bytes and paths of a column of this type: bytes, text, or a struct {bytes, path}; None for any other type."""
        if dtype == pl.Binary:
            return pl.col(column), None
        if dtype == pl.String:
            return None, pl.col(column)
        fields = dict(dtype) if isinstance(dtype, pl.Struct) else {}
        columns = [
            pl.col(column).struct.field(name) if fields.get(name) == kind else None
            for name, kind in (("bytes", pl.Binary), ("path", pl.String))
        ]
        return (columns[0], columns[1]) if any(expression is not None for expression in columns) else None

    def take(self, rows: Rows) -> list[Item]:
        """Encoded images, or files, of the rows, counted over all files.

        A row with neither is empty bytes, which cannot be decoded. Raises DataError for files that are missing.
        """
        starts = np.cumsum([0, *self.lengths])
        items: list[Item] = []
        for number, (start, stop) in enumerate(itertools.pairwise(starts)):
            here = rows[(rows >= start) & (rows < stop)] - start
            if len(here):
                items += self._of_file(number, here)
        return items

    def _of_file(self, number: int, rows: Rows) -> Sequence[Item]:
        path, (content, paths) = self.files[number], self.columns[number]
        images: list[bytes | None] = [None] * len(rows)
        if content is not None:
            column = read_column(path, content).gather(rows)
            size, limit = int(column.bin.size().sum()), foreign.allowed_bytes(path.stat().st_size, RATIO)
            if size > limit:  # one image that a dictionary repeats
                raise DataError(f"{path}: {size} bytes of images, at most {limit} wanted; write each image once")
            images = column.to_list()
        if paths is None or all(image is not None for image in images):
            return [image or b"" for image in images]
        return self._with_files(path, images, read_column(path, paths).gather(rows).to_list())

    def _with_files(self, path: Path, images: Sequence[bytes | None], names: Sequence[str | None]) -> list[Item]:
        """The images, and the files that are named where there are no bytes."""
        root = self.root or path.parent
        items: list[Item] = []
        missing = []
        for image, name in zip(images, names, strict=True):
            if image is not None or name is None:
                items.append(image or b"")
                continue
            if leads_outside(name) or "\0" in name:
                raise DataError(
                    f"{self.key} {path}: holds no image but the path {name[:120]!r}, which does not lie under data.root; "
                    "write paths without `..` or a leading `/`, and set data.root to the folder they start from"
                )
            items.append(root / name)
            if not os.path.isfile(root / name):
                missing.append(name)
        if missing:
            raise DataError(
                f"{self.key} {path}: holds paths in place of images, and {len(missing)} of {len(names)} files are missing "
                f"under {root}: {listed(missing, NAMED_MISSING)}; set data.root to the folder that the paths start from"
            )
        return items
