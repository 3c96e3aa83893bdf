"""Labels, ids and class names as people keep them -> class indices 0 to C-1, unique text ids, C names."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.gather import Gathered, Part, only
from cache.exchange.source import SourceArray

CLASS_LIMIT = 1 << 20
"""A label beyond this is a mistake, not a class."""


def class_names(gathered: Gathered, file: Path | None, names: Mapping[str, str]) -> tuple[str, ...] | None:
    """Names in label order: those of `file`, else those in the files of features; None where nobody names them."""
    if file is not None:
        return _checked(str(file), _json(file) if file.suffix == ".json" else _texts(only(file, "classes", names)))
    if gathered.classes is not None:
        return _checked(gathered.classes.where, _texts(gathered.classes))
    if "classes" not in gathered.metadata:
        return None
    return _checked("metadata classes", _listed("metadata classes", gathered.metadata["classes"]))


def class_labels(
    parts: Mapping[str, Part], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """The class names and, for each split, class indices (N,) int64.

    Text labels are looked up in the names, in sorted order where none are given; numbers are taken as they are.
    Raises CacheInvalid for a label of another kind or out of range.
    """
    found = {split: _raw(part) for split, part in parts.items()}
    kinds = {values_N.dtype.kind == "U" for values_N in found.values()}
    if len(kinds) > 1:
        raise CacheInvalid("labels are text in one split and numbers in another; give the same in all")
    if kinds == {True}:
        wanted = names or tuple(sorted({str(value) for values_N in found.values() for value in np.unique(values_N)}))
        _checked("labels", list(wanted))
        return wanted, {split: _looked_up(parts[split], found[split], wanted) for split in found}
    limit = len(names) if names else CLASS_LIMIT
    for split, values_N in found.items():
        outside_N = (values_N < 0) | (values_N >= limit)
        if outside_N.any():
            _refuse(
                parts[split], int(outside_N.argmax()), f"label {values_N[outside_N.argmax()]}, wanted 0 to {limit - 1}"
            )
    classes = names or tuple(str(c) for c in range(1 + max(int(values_N.max()) for values_N in found.values())))
    return classes, {split: values_N.astype(np.int64) for split, values_N in found.items()}


def sample_ids(part: Part, rows: int) -> list[str]:
    """An id a row, unique: those given, else the rows' numbers in their file."""
    if part.ids is None:
        return [str(row) for row in (range(rows) if part.rows_N is None else part.rows_N.tolist())]
    _same_length(part, part.ids, "ids")
    ids = _texts(part.ids)
    chosen = ids if part.rows_N is None else [ids[row] for row in part.rows_N.tolist()]
    first: dict[str, int] = {}
    for row, one in enumerate(chosen):
        if one in first:
            raise CacheInvalid(
                f"{part.ids.where}: id {one!r} stands twice (rows {first[one]} and {row}); ids are unique in a split"
            )
        first[one] = row
    return chosen


def _raw(part: Part) -> np.ndarray:
    assert part.labels is not None  # gather refuses a split without
    _same_length(part, part.labels, "labels")
    values_N = part.labels.read()
    if values_N.dtype.kind not in "iubU":
        raise CacheInvalid(f"{part.labels.where}: labels are {values_N.dtype}, wanted whole numbers or text")
    return values_N if part.rows_N is None else values_N[part.rows_N]


def _same_length(part: Part, array: SourceArray, what: str) -> None:
    features = part.views["clean"]
    if array.shape != (features.rows,):
        raise CacheInvalid(
            f"{array.where}: wanted {features.rows} {what}, one for each row of {features.where}, found {array.shape}"
        )


def _looked_up(part: Part, values_N: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    index = {name: c for c, name in enumerate(names)}
    if len(index) != len(names):
        raise CacheInvalid("class names: one stands twice, so text labels do not say which is meant; use numbers")
    labels_N = np.array([index.get(value, -1) for value in values_N.tolist()], dtype=np.int64)
    if (labels_N < 0).any():
        row = int((labels_N < 0).argmax())
        _refuse(part, row, f"label {str(values_N[row])!r} is none of the {len(names)} classes")
    return labels_N


def _refuse(part: Part, row: int, reason: str) -> None:
    assert part.labels is not None
    source_row = row if part.rows_N is None else int(part.rows_N[row])
    raise CacheInvalid(f"{part.labels.where}: row {source_row}: {reason}")


def _texts(array: SourceArray) -> list[str]:
    """Text; numbers as their digits."""
    values = array.read()
    if values.dtype.kind not in "iuU" or values.ndim != 1:
        raise CacheInvalid(
            f"{array.where}: wanted text or whole numbers, one a row, found {values.dtype} {values.shape}"
        )
    return [_sound(array.where, str(value)) for value in values.tolist()]


def _checked(where: str, names: list[str]) -> tuple[str, ...]:
    if not 0 < len(names) <= CLASS_LIMIT:
        raise CacheInvalid(f"{where}: wanted 1 to {CLASS_LIMIT} class names, found {len(names)}")
    return tuple(_sound(where, name) for name in names)


def _sound(where: str, text: str) -> str:
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise CacheInvalid(f"{where}: {text!r} is no text that a file can hold (NUL, or half a character)")
    return text


def _json(file: Path) -> list[str]:
    try:
        return _listed(str(file), file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise CacheInvalid(f"{file}: wanted UTF-8 text") from None


def _listed(where: str, text: str) -> list[str]:
    """A JSON list of names, or an object of index -> name."""
    try:
        found = json.loads(text)
        if isinstance(found, dict):
            found = [found[str(c)] for c in range(len(found))]
    except (ValueError, KeyError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise CacheInvalid(f'{where}: wanted a JSON list of names, or an object {{"0": name, "1": name, …}}')
    return found
