"""Images in Parquet files, as data hubs keep them: a column {bytes, path} or plain bytes, labels as integers or names."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from cache.parquet import foreign, pages
from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.sources.source import Raw, Source, check_labels, files
from pipeline.longtail import Rows
from pipeline.settings.stage1 import Data

RATIO = 64
"""Decoded bytes a byte of the file: encoded images do not shrink."""
UNREADABLE = (pages.Unfit, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def load_parquet(data: Data) -> Source:
    """Splits from `data.train`, `data.val`, `data.test`; only labels are read until images are taken.

    Class names: `data.classes`, else the `huggingface` metadata of the train files, else the train labels, sorted, where
    they are text, else the numbers.
    """
    found = {name: getattr(data, name) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    tables = {name: _Table(f"data.{name}", text, data) for name, text in found.items()}
    classes = data.classes or tables["train"].classes()
    return Source(classes, {name: table.raw(classes) for name, table in tables.items()})


class _Table:
    """The Parquet files of one split, in the order of their names."""

    def __init__(self, key: str, text: str, data: Data) -> None:
        self.key = key
        self.files = files(key, text, "*.parquet")
        self.image_column, self.label_column = data.image_column, data.label_column
        for path in self.files:
            self._check_columns(path)
        self.labels = [self._column(path, pl.col(self.label_column)) for path in self.files]

    def classes(self) -> tuple[str, ...]:
        """Class names in label order, by what the files know."""
        named = _named_classes(self.files[0], self.label_column)
        if named:
            return named
        kinds = sorted({str(labels.dtype) for labels in self.labels if not labels.dtype.is_integer()})
        if len(kinds) > 1 or (kinds and any(labels.dtype.is_integer() for labels in self.labels)):
            raise DataError(
                f"{self.key}: column {self.label_column!r}: integers in some files, text in others; use one"
            )
        labels = pl.concat(self.labels, how="vertical_relaxed").drop_nulls()
        if labels.dtype == pl.String:
            return tuple(sorted(labels.unique().to_list()))
        largest = int(labels.max() or 0)  # type: ignore[arg-type]
        if largest >= len(labels):
            raise DataError(
                f"{self.key} {self.files[0]}: column {self.label_column!r}: wanted labels from 0, one number a class, found "
                f"{largest} among {len(labels)} rows; correct the labels, or name the classes with data.classes"
            )
        return tuple(str(label) for label in range(largest + 1))

    def raw(self, classes: tuple[str, ...]) -> Raw:
        """Labels and ids (`<file>#<row>`), images on demand."""
        labels_N = np.concatenate(
            [self._numbers(path, labels, classes) for path, labels in zip(self.files, self.labels, strict=True)]
        )
        ids = [
            f"{path.name}#{row}"
            for path, labels in zip(self.files, self.labels, strict=True)
            for row in range(len(labels))
        ]
        return Raw(ids, labels_N, partial(_take, self.files, [len(labels) for labels in self.labels], self._bytes()))

    def _check_columns(self, path: Path) -> None:
        try:
            str(path).encode("utf-8")  # polars takes no other path
        except UnicodeEncodeError:
            raise DataError(f"{self.key}: wanted files with names in UTF-8, found {str(path)!r}; rename it") from None
        try:
            foreign.check(path, RATIO)
            schema = pl.read_parquet_schema(path)
        except (OSError, *UNREADABLE) as error:
            raise DataError(f"{self.key} {path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
        for setting, column in (("image_column", self.image_column), ("label_column", self.label_column)):
            if column not in schema:
                raise DataError(
                    f"{self.key} {path}: no column {column!r}, found {', '.join(schema)}; name it with --set data.{setting}=NAME"
                )
        dtype = schema[self.image_column]
        is_struct = isinstance(dtype, pl.Struct) and "bytes" in dict(dtype)
        if not is_struct and dtype != pl.Binary:
            raise DataError(
                f"{self.key} {path}: column {self.image_column!r}: wanted bytes or a struct {{bytes, path}}, found {dtype}"
            )
        self._struct = is_struct

    def _bytes(self) -> pl.Expr:
        column = pl.col(self.image_column)
        return column.struct.field("bytes") if self._struct else column

    def _column(self, path: Path, expression: pl.Expr) -> pl.Series:
        return _read(path, expression)

    def _numbers(self, path: Path, labels: pl.Series, classes: tuple[str, ...]) -> Rows:
        if labels.null_count():
            row = labels.is_null().arg_max()
            raise DataError(f"{self.key} {path}: row {row}: wanted a label in column {self.label_column!r}, found none")
        if labels.dtype.is_integer():
            labels_N = labels.cast(pl.Int64).to_numpy()
            check_labels(self.key, path, labels_N, classes)
            return labels_N
        if labels.dtype != pl.String and not isinstance(labels.dtype, (pl.Categorical, pl.Enum)):
            raise DataError(
                f"{self.key} {path}: column {self.label_column!r}: wanted integers or text, found {labels.dtype}"
            )
        numbers = {name: number for number, name in enumerate(classes)}
        names = labels.cast(pl.String).to_list()
        for row, name in enumerate(names):
            if name not in numbers:
                raise DataError(
                    f"{self.key} {path}: row {row}: wanted one of the {len(classes)} classes of the train split, found {name!r}"
                )
        return np.array([numbers[name] for name in names], dtype=np.int64)


def _read(path: Path, expression: pl.Expr) -> pl.Series:
    try:
        return pl.scan_parquet(path, glob=False).select(expression.alias("found")).collect()["found"]
    except (OSError, *UNREADABLE) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]}); fetch the file again"
        ) from None


def _named_classes(path: Path, column: str) -> tuple[str, ...]:
    """The class names in a hub's metadata; none where it has none, or is no metadata of that kind."""
    try:
        metadata = json.loads(pl.read_parquet_metadata(path).get("huggingface", "{}"))
        return tuple(str(name) for name in metadata["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()


def _take(paths: Sequence[Path], lengths: Sequence[int], column: pl.Expr, rows: Rows) -> list[Item]:
    """Encoded images of the rows, counted over all files; a null is empty bytes, which cannot be decoded."""
    starts = np.cumsum([0, *lengths])
    items: list[Item] = []
    for path, start, stop in zip(paths, starts, starts[1:], strict=False):
        here = rows[(rows >= start) & (rows < stop)] - start
        if len(here):
            images = _read(path, column).gather(here)
            found, limit = int(images.bin.size().sum()), foreign.allowed_bytes(path.stat().st_size, RATIO)
            if found > limit:  # one image that a dictionary repeats
                raise DataError(f"{path}: {found} bytes of images, at most {limit} wanted; write each image once")
            items += [item or b"" for item in images.to_list()]
    return items
