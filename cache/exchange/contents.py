"""What an import stores: splits, class names and classifier. Everything is checked here but the values of the features."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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
    """One split: the features of each view, (N, D), labels (N,) and sample ids.

    `rows_N` are the rows of the arrays that belong to the split; None stands for all.
    """

    views: dict[str, SourceArray]
    labels_N: NDArray[np.int64]
    ids: list[str]
    rows_N: NDArray[np.int64] | None = None

    def select(self, rows_N: NDArray[np.int64]) -> "Table":
        """The table with only some of its rows, given in ascending order."""
        source_N = rows_N if self.rows_N is None else self.rows_N[rows_N]
        return Table(self.views, self.labels_N[rows_N], [self.ids[row] for row in rows_N.tolist()], source_N)


@dataclass(frozen=True)
class Dataset:
    """Everything that an import stores. The values of the features are not checked yet."""

    splits: dict[str, Table]
    classes: tuple[str, ...]
    width: int
    dtype: Literal["float16", "float32"]
    """The type in which features are stored: float16 where all arrays are float16, else float32."""
    rounded: bool
    """Whether float64 features are rounded to float32."""
    classifier: dict[str, NDArray[np.float32]] | None
    """Weight (C, D) and bias (C,), or None."""
    notes: tuple[str, ...] = ()
    """Lines that tell the user which array was taken as what."""

    @property
    def size(self) -> int:
        """Bytes of all features in the storage type."""
        rows = sum(len(table.labels_N) * len(table.views) for table in self.splits.values())
        return rows * self.width * layout.ITEM_BYTES[self.dtype]

    def with_splits(self, splits: dict[str, Table]) -> "Dataset":
        """The data set with other splits."""
        return replace(self, splits=splits)


def read_dataset(request: Request) -> Dataset:
    """Open a user's files, and check shapes, types, labels and ids. Raises CacheInvalid for the first that is wrong."""
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
    """The line that tells which arrays are the split's features, labels and ids."""
    clean, labels = part.views["clean"], part.labels
    assert labels is not None  # gather refuses a split without labels
    views = f" and {len(part.views) - 1} more views" if len(part.views) > 1 else ""
    ids = f", ids {part.ids.where}" if part.ids else ""
    return f"{split}: features {clean.where} {clean.shape}{views}, labels {labels.where}{ids}"


def _check_features(array: SourceArray, first: SourceArray, clean: SourceArray) -> None:
    if len(array.shape) != 2:
        raise CacheInvalid(
            f"{array.where}: wanted (rows, features), found {array.shape}; pool to one feature vector a row"
        )
    if array.dtype not in FLOATS:
        raise CacheInvalid(f"{array.where}: wanted features of {', '.join(FLOATS)} or bfloat16, found {array.dtype}")
    if 0 in array.shape:
        raise CacheInvalid(f"{array.where}: wanted at least one row and one feature, found {array.shape}")
    if array.shape[1] != first.shape[1]:
        raise CacheInvalid(
            f"{array.where}: wanted {first.shape[1]} features a row as in {first.where}, found {array.shape[1]}"
        )
    if array.rows != clean.rows:
        raise CacheInvalid(f"{array.where}: wanted {clean.rows} rows as in {clean.where}, found {array.rows}")
