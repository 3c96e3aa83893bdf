"""Images named by a table: a row an image, with a column of paths, one of labels and perhaps one of splits."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.class_names import checked
from pipeline.images.sources.folder import SUFFIXES
from pipeline.images.sources.labels import numbered
from pipeline.images.sources.list_lines import missing_error
from pipeline.images.sources.source import (
    SHOWN,
    SPLIT_OF_WORD,
    SPLIT_WORDS,
    Raw,
    Source,
    expand,
    leads_outside,
    portable,
    take_files,
)
from pipeline.images.sources.table_columns import columns_of
from pipeline.images.sources.table_file import TABLE_SUFFIXES, read_table
from pipeline.longtail import Rows
from pipeline.progress import note
from pipeline.settings.stage1 import Data

METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", ".parquet"))
"""The table that a folder of Hugging Face's `imagefolder` holds."""


@dataclass(frozen=True)
class _Listed:
    """The rows of one split: paths relative to `root`, labels as written, and the place of both for error messages."""

    where: str
    root: Path
    paths: list[str]
    labels: pl.Series
    one_hot: tuple[str, ...]


def load_table(data: Data) -> Source:
    """Splits from the tables `data.train`, `data.val`, `data.test`, and from the split column of `data.train`.

    A table is CSV, TSV, JSON lines, Parquet or the JSON of COCO and iNaturalist; or a folder with a `metadata` file.
    Paths start from `data.root`, by default the table's folder. Columns that `data.image_column`, `data.label_column` and
    `data.split_column` do not name are found by their usual names, or by what they hold. `labels` says how labels become
    classes. One-hot labels in several columns name the classes by the columns.

    A sample's id is its path below the folder that all images of the split lie in, and rows come in the order of label
    and path: a folder of class folders and any table of the same files give the same samples, and so the same cache.
    Raises DataError for columns that cannot be told, a path listed twice, and missing files.
    """
    tables = [_read(name, data) for name in ("train", "val", "test") if name == "train" or getattr(data, name)]
    by_split = {name: rows for table in tables for name, rows in table.items()}
    splits = {name: by_split[name] for name in SPLIT_WORDS if name in by_split}
    if "train" not in splits:
        raise DataError(f"data.train {data.train}: its split column has no row of the training split")
    named = checked("data.classes", data.classes) or splits["train"].one_hot
    columns = {name: rows.labels for name, rows in splits.items()}
    classes, labels = numbered(columns, named, {name: rows.where for name, rows in splits.items()})
    files_of = {name: _found_files(rows) for name, rows in splits.items()}
    missing = [path for name, rows in splits.items() for path in _missing(rows, files_of[name])]
    if missing:
        total = sum(len(rows.paths) for rows in splits.values())
        raise missing_error(missing, total, [rows.root for rows in splits.values()], is_whole=True)
    return Source(classes, {name: _raw(rows, files_of[name], labels[name]) for name, rows in splits.items()})


def table_in(path: Path) -> Path | None:
    """The table that the path is, or the `metadata` file in the folder that it is; None where there is neither."""
    if path.is_dir():
        return next((path / name for name in METADATA if (path / name).is_file()), None)
    return path if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() else None


def _read(name: str, data: Data) -> dict[str, _Listed]:
    """The rows of the table that a setting names, by split: one split, or those of its split column."""
    key = f"data.{name}"
    place = expand(key, getattr(data, name))
    file = table_in(place)
    if file is None:
        raise DataError(
            f"{key} {place}: wanted a table ({', '.join(TABLE_SUFFIXES)}) or a folder with a metadata table, found "
            f"{'no such file' if not place.exists() else 'none'}"
        )
    frame = read_table(key, file)
    where = f"{key} {file}"
    columns = columns_of(frame, data, where)
    root = expand("data.root", data.root) if data.root else file.parent
    frame = _labelled(frame, columns.label, columns.one_hot, columns.path)
    of_split = {name: frame}
    if columns.split:
        of_split = _wanted(name, _by_split(frame, columns.split, where), data, f"{where}: column {columns.split!r}")
    shown = f"{where}: column {columns.label!r}" if columns.label else f"{where}: one-hot columns"
    return {
        split: _Listed(shown, root, _paths(rows["path"], root, where), rows["label"], columns.one_hot)
        for split, rows in of_split.items()
    }


def _labelled(frame: pl.DataFrame, label: str, one_hot: Sequence[str], path: str) -> pl.DataFrame:
    """The frame with its paths as `path` and its labels as `label`, beside the columns that it had."""
    if one_hot:
        values_NC = frame.select(pl.col(name).cast(pl.Float64) for name in one_hot).to_numpy()
        labels = pl.Series("label", values_NC.argmax(axis=1))
    else:
        labels = frame[label].alias("label")
    return frame.with_columns(frame[path].cast(pl.String).alias("path"), labels)


def _by_split(frame: pl.DataFrame, column: str, where: str) -> dict[str, pl.DataFrame]:
    """The rows of each split. Raises DataError for a value that names none."""
    written = frame[column].cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    unknown = sorted(set(written.unique().to_list()) - set(SPLIT_OF_WORD))
    if unknown:
        raise DataError(
            f"{where}: column {column!r}: wanted train, val or test in each row, found "
            f"{listed([repr(text) for text in unknown], 5)}; correct it, or rename the column where it is none of splits"
        )
    names = written.replace_strict(SPLIT_OF_WORD)
    present = names.unique().to_list()
    return {split: frame.filter(names == split) for split in SPLIT_WORDS if split in present}


def _wanted(name: str, by_split: dict[str, pl.DataFrame], data: Data, where: str) -> dict[str, pl.DataFrame]:
    """Which splits are taken of the table that the setting `data.{name}` names; a note says which are left out.

    Of the training table: all but those that a setting of their own names. Of another table: its own split, or whatever it
    holds where that is one split, such as the split val used as test. Raises DataError where neither is there.
    """
    if name == "train":
        others = [split for split in by_split if split != "train" and getattr(data, split)]
        namers = " and ".join(f"data.{split}" for split in others)
        reason = f"{namers} names that split" if len(others) == 1 else f"{namers} name those splits"
    elif name in by_split:
        others = [split for split in by_split if split != name]
        reason = f"data.{name} names the split {name}"
    elif len(by_split) == 1:
        return {name: next(iter(by_split.values()))}
    else:
        raise DataError(
            f"{where}: wanted rows of {name}, found rows of {' and '.join(by_split)} alone; correct the column, or name "
            "another table"
        )
    if others:
        left_out = ", ".join(f"{split} ({by_split[split].height})" for split in others)
        note(f"{where}: rows of {left_out} are left out; {reason}")
    return {split: frame for split, frame in by_split.items() if split not in others}


def _paths(column: pl.Series, root: Path, where: str) -> list[str]:
    """Paths relative to the root, with `/`. Raises DataError for a row without one, and for one that leads out of the root."""
    paths = []
    for row, written in enumerate(column.to_list()):
        text = (written or "").strip()
        if not text:
            raise DataError(f"{where}: row {row}: wanted the path of an image, found none; take the row out")
        path = text.replace("\\", "/") if "\\" in text and not (root / text).is_file() else text
        if path.startswith("/") and Path(path).is_relative_to(root):
            path = str(Path(path).relative_to(root))
        if leads_outside(path) or "\0" in path:
            raise DataError(
                f"{where}: row {row}: wanted a path under {root}, found {path[:SHOWN]!r}; write the paths without `..` or a "
                "leading `/`, or set data.root to the folder they start from"
            )
        paths.append(path.removeprefix("./"))
    return paths


def _found_files(rows: _Listed) -> list[str | None]:
    """Each row's file under the root, None where it is missing; a name without a suffix gets that of the files there."""
    suffixes = [""]
    resolved: list[str | None] = []
    for path in rows.paths:
        name = next((path + end for end in suffixes if os.path.isfile(os.path.join(rows.root, path + end))), None)
        if name is None and suffixes == [""] and not PurePosixPath(path).suffix:
            ends = (end for suffix in sorted(SUFFIXES) for end in (suffix, suffix.upper()))
            end = next((end for end in ends if os.path.isfile(os.path.join(rows.root, path + end))), None)
            suffixes += [end] if end else []
            name = path + end if end else None
        resolved.append(name)
    return resolved


def _missing(rows: _Listed, resolved: Sequence[str | None]) -> list[str]:
    return [path for path, file in zip(rows.paths, resolved, strict=True) if file is None]


def _raw(rows: _Listed, resolved: Sequence[str | None], labels_N: Rows) -> Raw:
    paths = [str(path) for path in resolved]
    if len(set(paths)) < len(paths):
        twice = Counter(paths).most_common(1)[0][0]
        raise DataError(f"{rows.where}: {twice} is listed twice; keep one of the rows: an image has one label")
    parts = [PurePosixPath(path).parts for path in paths]
    common = _shared_folders(parts)
    order = sorted(range(len(paths)), key=lambda row: (int(labels_N[row]), parts[row]))
    ids = [portable("/".join(parts[row][common:])) for row in order]
    files = [paths[row] for row in order]
    return Raw(ids, labels_N[np.array(order, dtype=np.int64)], partial(take_files, rows.root, files), ids)


def _shared_folders(parts: Sequence[tuple[str, ...]]) -> int:
    """How many folders all paths begin with."""
    first, last = min(part[:-1] for part in parts), max(part[:-1] for part in parts)
    pairs = enumerate(zip(first, last, strict=False))
    return next((number for number, (one, other) in pairs if one != other), min(len(first), len(last)))
