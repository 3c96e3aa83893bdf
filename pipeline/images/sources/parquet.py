"""Images in Parquet files, as data hubs keep them: a column {bytes, path}, bytes or paths; labels as integers or names."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from cache.parquet import foreign
from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.class_names import checked, in_order, spelled
from pipeline.images.sources.parquet_images import RATIO, UNREADABLE, Columns, ImageColumn, read_column
from pipeline.images.sources.source import Raw, Source, check_labels, expand, files
from pipeline.longtail import Rows
from pipeline.progress import note
from pipeline.settings.stage1 import Data


def load_parquet(data: Data) -> Source:
    """Splits from `data.train`, `data.val`, `data.test`; only labels are read until images are taken.

    Class names: `data.classes`, else the `huggingface` metadata of the train files, else the train labels where they are
    text, in the order of their characters or, where all are numbers, by number; else the numbers. Files that name
    their classes are matched by name, whatever numbers they give them.
    """
    places = {name: getattr(data, name) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    tables = {name: _Table(f"data.{name}", text, data) for name, text in places.items()}
    named = checked("data.classes", data.classes)
    own = () if named else tables["train"].classes()
    reference = _Reference(
        named or own, tables["train"].positions(named, own), not named and tables["train"].has_text()
    )
    return Source(reference.classes, {name: table.raw(reference) for name, table in tables.items()})


class _Reference:
    """Class names in label order, and by what name or number each class goes in files."""

    def __init__(self, classes: tuple[str, ...], positions: dict[str, int], only_text: bool) -> None:
        self.classes = classes
        self.positions = positions
        """Class name in the training files, or in `data.classes` -> label; empty where only numbers are known."""
        self.only_text = only_text
        """The training files have text labels and nothing else numbers the classes."""


class _Table:
    """The Parquet files of one split, in the order of their names."""

    def __init__(self, key: str, text: str, data: Data) -> None:
        self.key = key
        self.files = files(key, text, "*.parquet")
        self.label_column = data.label_column
        self.root = expand("data.root", data.root) if data.root else None
        self.columns = tuple(self._checked_columns(path, data.image_column) for path in self.files)
        self.labels = [self._labels(path) for path in self.files]
        self.names = [_named_classes(path, self.label_column) for path in self.files]

    def has_text(self) -> bool:
        return self.labels[0].dtype == pl.String

    def classes(self) -> tuple[str, ...]:
        """Class names in label order, by what the files know."""
        if named := next((names for names in self.names if names), ()):
            return named
        if len({labels.dtype == pl.String for labels in self.labels}) > 1:
            raise DataError(
                f"{self.key}: column {self.label_column!r}: integers in some files, text in others; use one"
            )
        kind = pl.String if self.has_text() else pl.Int64
        labels = pl.concat([labels.cast(kind) for labels in self.labels]).drop_nulls()
        if labels.dtype == pl.String:
            return tuple(in_order(labels.unique().to_list()))
        largest = int(labels.max() or 0)  # type: ignore[arg-type]
        if largest >= max(len(labels), 1):
            raise DataError(
                f"{self.key} {self.files[0]}: column {self.label_column!r}: wanted labels from 0, one number a class, found "
                f"{largest} among {len(labels)} rows; correct the labels, or name the classes with data.classes"
            )
        return tuple(str(label) for label in range(max(largest, 0) + 1))

    def positions(self, named: tuple[str, ...], own: tuple[str, ...]) -> dict[str, int]:
        """Label of each class name: of `data.classes` where it has all of the files' own names, else in the files' order."""
        names = next((names for names in self.names if names), own if self.has_text() else ())
        if named and (self.has_text() or set(names) <= set(named)):
            return {name: label for label, name in enumerate(named)}
        # A name that stands twice cannot tell its classes apart.
        return {name: label for label, name in enumerate(names)} if len(set(names)) == len(names) else {}

    def raw(self, reference: _Reference) -> Raw:
        """Labels and ids (`<file>#<row>`), images on demand."""
        labels_N = np.concatenate([self._numbers(number, reference) for number in range(len(self.files))])
        lengths = tuple(len(labels) for labels in self.labels)
        ids = [f"{path.name}#{row}" for path, length in zip(self.files, lengths, strict=True) for row in range(length)]
        column = ImageColumn(self.key, tuple(self.files), lengths, self.columns, self.root)
        self._say_unchecked(reference)
        return Raw(ids, labels_N, column.take)

    def _checked_columns(self, path: Path, image_column: str) -> Columns:
        try:
            str(path).encode("utf-8")  # polars takes no other path
        except UnicodeEncodeError:
            raise DataError(f"{self.key}: wanted files with names in UTF-8, found {str(path)!r}; rename it") from None
        try:
            foreign.check(path, RATIO)
            schema = pl.read_parquet_schema(path)
        except (OSError, *UNREADABLE) as error:
            raise DataError(f"{self.key} {path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
        for setting, column in (("image_column", image_column), ("label_column", self.label_column)):
            if column not in schema:
                raise DataError(
                    f"{self.key} {path}: no column {column!r}, found {', '.join(schema)}; name it with --set data.{setting}=NAME"
                )
        columns = ImageColumn.expressions(image_column, schema[image_column])
        if columns is None:
            raise DataError(
                f"{self.key} {path}: column {image_column!r}: wanted bytes or a struct {{bytes, path}}, found "
                f"{schema[image_column]}"
            )
        return columns

    def _labels(self, path: Path) -> pl.Series:
        """Integers, or text as class names are spelled. Raises DataError for other types and for a row without a label."""
        labels = read_column(path, pl.col(self.label_column))
        if isinstance(labels.dtype, (pl.Categorical, pl.Enum)):
            labels = labels.cast(pl.String)
        if not labels.dtype.is_integer() and labels.dtype != pl.String:
            nested = "; of one-hot labels, write the index of the 1 (the argmax) of each row"
            raise DataError(
                f"{self.key} {path}: column {self.label_column!r}: wanted integers or text, found {labels.dtype}"
                f"{nested if labels.dtype.is_nested() else ''}"
            )
        if labels.dtype == pl.String:
            labels = pl.Series(labels.name, [name and spelled(name) for name in labels.to_list()], dtype=pl.String)
        missing = labels.is_null() if labels.dtype.is_integer() else labels.is_null() | (labels.str.strip_chars() == "")
        if missing.any():
            row = missing.arg_max()
            raise DataError(f"{self.key} {path}: row {row}: wanted a label in column {self.label_column!r}, found none")
        return labels

    def _numbers(self, number: int, reference: _Reference) -> Rows:
        path, labels, own = self.files[number], self.labels[number], self.names[number]
        if labels.dtype == pl.String:
            return self._looked_up(path, labels.to_list(), reference)
        labels_N = labels.cast(pl.Int64, strict=False).fill_null(-2).to_numpy()
        if own and reference.positions and len(set(own)) == len(own):
            labels_N = self._by_name(path, labels_N, own, reference)
        elif reference.only_text:
            raise DataError(
                f"{self.key} {path}: column {self.label_column!r}: integers, where the train split has text; write names, or "
                "number the classes with data.classes"
            )
        check_labels(self.key, path, labels_N, reference.classes)
        return labels_N

    def _by_name(self, path: Path, labels_N: Rows, own: tuple[str, ...], reference: _Reference) -> Rows:
        """The file's own numbers as those of the classes of the same names."""
        check_labels(self.key, path, labels_N, own)
        numbers_C = np.array([reference.positions.get(name, -1) for name in own], dtype=np.int64)
        unknown = [own[label] for label in np.unique(labels_N).tolist() if numbers_C[label] < 0]
        if unknown:
            raise DataError(
                f"{self.key} {path}: wanted the {len(reference.positions)} classes of the train split, found {listed(unknown)} "
                "too; leave those rows out, or name the classes alike"
            )
        return numbers_C[labels_N]

    def _looked_up(self, path: Path, names: Sequence[str], reference: _Reference) -> Rows:
        numbers = reference.positions or {name: label for label, name in enumerate(reference.classes)}
        for row, name in enumerate(names):
            if name not in numbers:
                raise DataError(
                    f"{self.key} {path}: row {row}: wanted one of the {len(numbers)} classes of the train split, found {name!r}"
                )
        return np.array([numbers[name] for name in names], dtype=np.int64)

    def _say_unchecked(self, reference: _Reference) -> None:
        numbers_only = any(
            labels.dtype.is_integer() and not (own and reference.positions)
            for labels, own in zip(self.labels, self.names, strict=True)
        )
        if numbers_only and (self.key != "data.train" or any(self.names)):
            note(
                f"{self.key} {self.files[0]}: its labels are numbers only; whether they number the classes as other files do "
                "cannot be checked"
            )


def _named_classes(path: Path, column: str) -> tuple[str, ...]:
    """The class names in a hub's metadata; none where it has none, or is no metadata of that kind."""
    try:
        metadata = json.loads(pl.read_parquet_metadata(path).get("huggingface", "{}"))
        return tuple(spelled(str(name)) for name in metadata["info"]["features"][column]["names"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
