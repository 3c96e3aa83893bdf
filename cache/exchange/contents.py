"""What an import is about to store: splits, class names and classifier. All is checked but the features' values."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.classes import named_array, names_in_file
from cache.exchange.classifier import read_classifier
from cache.exchange.gather import Part, gather
from cache.exchange.labels import class_labels, sample_ids
from cache.exchange.request import Request
from cache.exchange.source import SourceArray
from cache.format import layout

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Table:
    """One split: features by view, (N, D) each, with labels (N,) and ids; `rows_N` are its rows of the arrays, None for all."""

    views: dict[str, SourceArray]
    labels_N: np.ndarray
    ids: list[str]
    rows_N: np.ndarray | None = None

    def select(self, rows_N: np.ndarray) -> "Table":
        """The same with only some rows, ascending."""
        source_N = rows_N if self.rows_N is None else self.rows_N[rows_N]
        return Table(self.views, self.labels_N[rows_N], [self.ids[row] for row in rows_N.tolist()], source_N)


@dataclass(frozen=True)
class Dataset:
    """Everything that an import stores; all is checked but the features' values."""

    splits: dict[str, Table]
    classes: tuple[str, ...]
    width: int
    dtype: Literal["float16", "float32"]
    """The storage type: the widest of the sources', float32 for float64."""
    rounded: bool
    classifier: dict[str, np.ndarray] | None
    notes: tuple[str, ...] = ()
    """What was taken as what, a line each."""

    @property
    def size(self) -> int:
        """Bytes of all features in the storage type."""
        rows = sum(len(table.labels_N) * len(table.views) for table in self.splits.values())
        return rows * self.width * layout.ITEM_BYTES[self.dtype]

    def with_splits(self, splits: dict[str, Table]) -> "Dataset":
        """The same with other rows."""
        return replace(self, splits=splits)


def read_dataset(request: Request) -> Dataset:
    """Open the files and check shapes, types, labels and ids. Raises CacheInvalid for the first that is wrong."""
    gathered = gather(request)
    arrays = [(split, view, array) for split, part in gathered.parts.items() for view, array in part.views.items()]
    first = arrays[0][2]
    for split, _, array in arrays:
        _check_features(array, first, gathered.parts[split].views["clean"])
    for split, part in gathered.parts.items():
        wanted = layout.view_names(len(part.views) - 1)
        if sorted(part.views) != wanted:
            raise CacheInvalid(
                f"split {split}: wanted views {', '.join(wanted)}, found {', '.join(sorted(part.views))}"
            )
    notes = [_taken(split, part) for split, part in gathered.parts.items()] + [*gathered.notes]
    order = None if request.classes is None else names_in_file(request.classes, request.names)
    names = {split: named_array(part.names) for split, part in gathered.parts.items() if part.names is not None}
    labelled = class_labels(gathered.parts, order, names, notes)
    splits = {
        split: Table(part.views, labelled.labels[split], sample_ids(part, len(labelled.labels[split])), part.rows_N)
        for split, part in gathered.parts.items()
    }
    classifier = read_classifier(gathered, labelled, first.shape[1], notes)
    types = {array.dtype for _, _, array in arrays}
    dtype: Literal["float16", "float32"] = "float16" if types == {"float16"} else "float32"
    return Dataset(splits, labelled.classes.names, first.shape[1], dtype, "float64" in types, classifier, tuple(notes))


def _taken(split: str, part: Part) -> str:
    """Which arrays the split's features, labels and ids are, in one line."""
    clean, labels = part.views["clean"], part.labels
    assert labels is not None  # gather refuses a split without
    views = f" and {len(part.views) - 1} more views" if len(part.views) > 1 else ""
    ids = f", ids {part.ids.where}" if part.ids else ""
    return f"{split}: features {clean.where} {clean.shape}{views}, labels {labels.where}{ids}"


def _check_features(array: SourceArray, first: SourceArray, clean: SourceArray) -> None:
    if len(array.shape) != 2:
        raise CacheInvalid(f"{array.where}: wanted (rows, features), found {array.shape}; pool to one feature a row")
    if array.dtype not in FLOATS:
        raise CacheInvalid(f"{array.where}: features are {array.dtype}, wanted {', '.join(FLOATS)} or bfloat16")
    if 0 in array.shape:
        raise CacheInvalid(f"{array.where}: empty, {array.shape}")
    if array.shape[1] != first.shape[1]:
        raise CacheInvalid(
            f"{array.where}: wanted {first.shape[1]} features a row as in {first.where}, found {array.shape[1]}"
        )
    if array.rows != clean.rows:
        raise CacheInvalid(f"{array.where}: wanted {clean.rows} rows as in {clean.where}, found {array.rows}")
