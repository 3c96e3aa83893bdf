"""Labels as people write them -> 0 … C - 1, alike in all splits.

They may be numbers from 0 or 1, numbers with holes, digits as text, names, or one-hot lists.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.class_names import in_order, spelled
from pipeline.longtail import Rows
from pipeline.progress import note

CLASS_LIMIT = 1_000_000
"""A data set may have at most so many classes; more distinct labels than that are a column of something else."""


def numbered(
    columns: Mapping[str, pl.Series], named: tuple[str, ...], shown: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    """Class names in label order, and for each split its labels (N,) as numbers from 0.

    `columns`: the labels of each split as its file holds them. `named`: `data.classes`, which may be empty. `shown`: the
    place of each split's labels, such as `data.train photos.csv: column 'label'`, for errors.

    Without `named`, text labels are class names in the order of their characters; whole numbers are classes in the order
    of the numbers, and are named by them. Numbers that start at 1, or that leave some out, therefore get no empty class.
    Raises DataError for a row without a label, for splits of which one has names and another numbers, for labels that
    `named` lacks, and for types that are no label.
    """
    plain = {split: _plain(labels, shown[split]) for split, labels in columns.items()}
    if _are_numbers(list(plain.values()), named):
        numbers = {split: labels.cast(pl.Float64).cast(pl.Int64) for split, labels in plain.items()}
        return _by_number(numbers, named, shown)
    texts = {split: labels.cast(pl.String) for split, labels in plain.items()}
    first, *others = texts
    known = set(named) or set(texts[first].to_list())
    for split in others:
        if _is_numeric(texts[split]) and not set(texts[split].to_list()) & known:
            raise DataError(
                f"{shown[split]}: its labels and those of data.{first} are of two kinds, numbers and names; write names in both, "
                "or numbers in both"
            )
    return _by_name(texts, named, shown)


def _are_numbers(columns: Sequence[pl.Series], named: Sequence[str]) -> bool:
    """Whether all labels are whole numbers, also as text, that are neither class names nor two spellings of one number."""
    if all(labels.dtype.is_integer() for labels in columns):
        return True
    texts = pl.concat([labels.cast(pl.String) for labels in columns]).unique()
    if not _is_numeric(texts) or (named and set(texts.to_list()) <= set(named)):
        return False
    return texts.cast(pl.Float64).n_unique() == len(texts)


def _is_numeric(texts: pl.Series) -> bool:
    return bool(texts.str.contains(r"^-?\d{1,15}(\.0*)?$").all())


def _plain(labels: pl.Series, where: str) -> pl.Series:
    """The labels as Int64 or as text; text of digits alone stays text here. Raises DataError for what is no label."""
    if isinstance(labels.dtype, (pl.Categorical, pl.Enum)):
        labels = labels.cast(pl.String)
    if isinstance(labels.dtype, (pl.List, pl.Array)):
        labels = _from_one_hot(labels, where)
    if labels.dtype == pl.Boolean:
        labels = labels.cast(pl.Int64)
    if labels.dtype.is_float():
        labels = _from_floats(labels, where)
    if labels.dtype == pl.String:
        labels = pl.Series(labels.name, [text and spelled(text).strip() for text in labels.to_list()], dtype=pl.String)
        empty = labels.is_null() | (labels == "")
    elif labels.dtype.is_integer():
        labels = labels.cast(pl.Int64, strict=False)
        empty = labels.is_null()
    else:
        raise DataError(f"{where}: wanted integers, names or one-hot lists as labels, found {labels.dtype}")
    if empty.any():
        raise DataError(
            f"{where}: row {empty.arg_max()}: wanted a label, found none ({empty.sum()} such rows); give it one, or take the "
            "row out"
        )
    return labels


def _from_floats(labels: pl.Series, where: str) -> pl.Series:
    """Whole numbers that a program wrote with a decimal point, as integers."""
    rows = np.flatnonzero((labels.is_not_null() & ~((labels == labels.round()) & labels.is_finite())).to_numpy())
    if len(rows):
        raise DataError(f"{where}: row {rows[0]}: wanted a whole number as label, found {labels[int(rows[0])]}")
    return labels.cast(pl.Int64)


def _from_one_hot(labels: pl.Series, where: str) -> pl.Series:
    """The index of the 1 in each row's list of zeros and a one. Raises DataError for any other list."""
    lists = labels.to_list()
    numbers: list[int | None] = []
    for row, values in enumerate(lists):
        if values is None:
            numbers.append(None)
            continue
        if len(values) != len(lists[0] or ()) or sorted(set(values)) not in ([0, 1], [1]) or sum(values) != 1:
            raise DataError(
                f"{where}: row {row}: wanted a one-hot list (zeros and a single 1), found {str(values)[:60]}"
            )
        numbers.append(values.index(1))
    return pl.Series(labels.name, numbers, dtype=pl.Int64)


def _by_name(
    plain: Mapping[str, pl.Series], named: tuple[str, ...], shown: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    every = pl.concat(list(plain.values())).unique().to_list()
    classes = named or tuple(in_order(every))
    _check_count(classes, shown)
    number_of = {name: number for number, name in enumerate(classes)}
    for split, labels in plain.items():
        unknown = [(row, name) for row, name in enumerate(labels.to_list()) if name not in number_of]
        if unknown:
            row, name = unknown[0]
            raise DataError(
                f"{shown[split]}: row {row}: wanted one of the {len(classes)} names of data.classes, found {name!r} "
                f"({len(unknown)} such rows); correct the labels, or data.classes"
            )
    return classes, {
        split: np.array([number_of[name] for name in labels.to_list()], dtype=np.int64)
        for split, labels in plain.items()
    }


def _by_number(
    plain: Mapping[str, pl.Series], named: tuple[str, ...], shown: Mapping[str, str]
) -> tuple[tuple[str, ...], dict[str, Rows]]:
    labels_of = {split: labels.to_numpy() for split, labels in plain.items()}
    for split, labels_N in labels_of.items():
        negative = np.flatnonzero(labels_N < 0)
        if len(negative):
            raise DataError(
                f"{shown[split]}: row {negative[0]}: wanted a label of at least 0, found {labels_N[negative[0]]} "
                f"({len(negative)} such rows), which often marks images without a label; leave those rows out"
            )
    present = np.unique(np.concatenate(list(labels_of.values())))
    if named:
        return named, {
            split: _as_named(labels_N, present, named, shown[split]) for split, labels_N in labels_of.items()
        }
    classes = tuple(str(number) for number in present.tolist())
    _check_count(classes, shown)
    if present.tolist() != list(range(len(present))):
        missing = sorted(set(range(int(present[0]), min(int(present[-1]), CLASS_LIMIT))) - set(present.tolist()))
        gaps = f"; no image has {listed([str(number) for number in missing], 5)}" if missing else ""
        note(
            f"{next(iter(shown.values()))}: labels are {len(present)} numbers from {present[0]} to {present[-1]}{gaps}; classes "
            "are named by these numbers, in their order"
        )
    return classes, {
        split: np.searchsorted(present, labels_N).astype(np.int64) for split, labels_N in labels_of.items()
    }


def _as_named(labels_N: Rows, present: Rows, named: Sequence[str], where: str) -> Rows:
    """Numbers as indices of `data.classes`: from 0, or from 1 where 0 is nowhere and the last class is number C."""
    if present[0] == 1 and present[-1] == len(named):
        note(f"{where}: labels run from 1 to {len(named)}; 1 is taken as {named[0]!r}, the first of data.classes")
        return (labels_N - 1).astype(np.int64)
    wrong = np.flatnonzero(labels_N >= len(named))
    if len(wrong):
        raise DataError(
            f"{where}: row {wrong[0]}: wanted a label from 0 to {len(named) - 1}, found {labels_N[wrong[0]]} ({len(wrong)} such "
            f"rows); {len(named)} classes are named: correct the labels, or data.classes"
        )
    return labels_N.astype(np.int64)


def _check_count(classes: Sequence[Any], shown: Mapping[str, str]) -> None:
    if len(classes) > CLASS_LIMIT:
        raise DataError(f"{next(iter(shown.values()))}: {len(classes)} distinct labels, at most {CLASS_LIMIT} wanted")
