"""Which column of a table holds the paths of images, which the labels, which the split."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.table_file import is_image
from pipeline.settings.stage1 import Data

PATH_COLUMN_NAMES = (
    "path",
    "file",
    "filename",
    "filepath",
    "image",
    "imagepath",
    "img",
    "imgpath",
    "imageid",
    "imgid",
    "fname",
)
LABEL_COLUMN_NAMES = (
    "label",
    "labels",
    "class",
    "classname",
    "classid",
    "category",
    "categoryid",
    "target",
    "y",
    "species",
)
SPLIT_COLUMN_NAMES = ("split", "set", "subset", "partition", "phase")
"""Names that columns usually have, in small letters and without `_`, `-` and blanks."""
ROWS_SEEN = 100
"""Rows that are looked at to tell a column of paths."""


@dataclass(frozen=True)
class TableColumns:
    """The names of a table's columns; `split` is "" where it has none, `one_hot` holds the columns of one-hot labels."""

    path: str
    label: str
    split: str
    one_hot: tuple[str, ...] = ()


def columns_of(frame: pl.DataFrame, data: Data, where: str) -> TableColumns:
    """The columns that the settings name, or that can be told by name or content.

    Raises DataError, with the columns there are and the setting to give, where a column is missing or cannot be told.
    """
    defaults = Data()
    split = _named(frame, "split_column", data.split_column, defaults.split_column, where)
    path = _named(frame, "image_column", data.image_column, defaults.image_column, where)
    label = _named(frame, "label_column", data.label_column, defaults.label_column, where)
    split = split or _usual(frame.columns, SPLIT_COLUMN_NAMES)
    path = path or _path_column(frame, where)
    rest = [name for name in frame.columns if name not in (path, split)]
    label = label or _usual(rest, LABEL_COLUMN_NAMES) or (rest[0] if len(rest) == 1 else "")
    one_hot = () if label else _one_hot(frame, rest)
    if not label and not one_hot:
        raise DataError(_unsure(frame, "label_column", "labels", where))
    return TableColumns(path, label, split, one_hot)


def _named(frame: pl.DataFrame, setting: str, wanted: str, default: str, where: str) -> str:
    """The column of that name; "" where the setting is left at its default and the table has no such column."""
    if not wanted or wanted in frame.columns:
        return wanted
    if wanted == default:
        return ""
    raise DataError(
        f"{where}: no column {wanted!r}, found {listed(frame.columns)}; name it with --set data.{setting}=NAME"
    )


def _usual(columns: Sequence[str], names: Sequence[str]) -> str:
    """The column whose name is the first of these names; "" for none, or for two that are written alike."""
    spelling = {column: re.sub(r"[\s_-]", "", column).lower() for column in columns}
    for name in names:
        matching = [column for column, plain in spelling.items() if plain == name]
        if matching:
            return matching[0] if len(matching) == 1 else ""
    return ""


def _path_column(frame: pl.DataFrame, where: str) -> str:
    texts = [name for name in frame.columns if frame[name].dtype == pl.String]
    with_images = [name for name in texts if _holds_images(frame[name])]
    if len(with_images) == 1:
        return with_images[0]
    usual = _usual(with_images or texts, PATH_COLUMN_NAMES)
    if not usual:
        raise DataError(_unsure(frame, "image_column", "paths of images", where))
    return usual


def _holds_images(column: pl.Series) -> bool:
    texts = [text for text in column.head(ROWS_SEEN).to_list() if text]
    return bool(texts) and sum(is_image(text) for text in texts) > len(texts) / 2


def _one_hot(frame: pl.DataFrame, names: Sequence[str]) -> tuple[str, ...]:
    """The columns, two or more, where each row has one 1 and else zeros; none where the rest is anything else."""
    if len(names) < 2:
        return ()
    numbers = frame.select(pl.col(name).cast(pl.Float64, strict=False) for name in names)
    values_NC = numbers.fill_null(-1).to_numpy()
    is_one_hot = ((values_NC == 0) | (values_NC == 1)).all() and (values_NC.sum(axis=1) == 1).all()
    return tuple(names) if is_one_hot else ()


def _unsure(frame: pl.DataFrame, setting: str, what: str, where: str) -> str:
    return f"{where}: wanted a column of {what}, found {listed(frame.columns)}; name it with --set data.{setting}=NAME"
