"""Sorting the arrays of a user's files into splits: features of each view, labels, ids, class names and a classifier."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.formats import open_source
from cache.exchange.names import ROLES, SPLITS, meaning, split_and_role
from cache.exchange.request import Request
from cache.exchange.source import Source, SourceArray
from cache.exchange.texts import listed, shown, sound

Arrays = dict[tuple[str, str, str], SourceArray]
"""Arrays by split, role and view. The split is "" for what belongs to all splits; a role is a key of `names.ROLES`."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a split may be called."""


@dataclass(frozen=True)
class Part:
    """The arrays of one split. `rows_N` are the rows of the arrays that belong to it; None stands for all."""

    views: dict[str, SourceArray]
    labels: SourceArray | None
    ids: SourceArray | None
    rows_N: NDArray[np.int64] | None = None
    names: SourceArray | None = None
    """The class names in the file of the labels, which say what their numbers mean."""
    origin: Path | None = None
    """The file or folder of the labels."""


@dataclass(frozen=True)
class Gathered:
    """The splits, `train` among them, and a classifier with the class names in its file."""

    parts: dict[str, Part]
    classifier: dict[str, SourceArray]
    classifier_names: SourceArray | None
    notes: tuple[str, ...] = ()


def gather(request: Request) -> Gathered:
    """Open every file and sort its arrays by split and role.

    Raises CacheInvalid where a split has no features or no labels, and where two arrays may be the same thing. The text
    lists the arrays that there are.
    """
    for key in request.names:
        if split_and_role(key)[1] not in ROLES:
            raise CacheInvalid(f"--column {key}: wanted a role of {', '.join(ROLES)}, or SPLIT/ROLE")
    opened = [(split, path, open_source(path)) for split, path in request.sources]
    gathered: Arrays = {}
    classifier_names = None
    for split, path, source in opened:
        arrays = _sort(split, source, request.names)
        class_names = _class_names(arrays, source, path)
        if ("", "weight", "") in arrays:
            classifier_names = class_names
        _merge(gathered, arrays)
    origins = {array.where: path for _, path, source in opened for array in source.arrays}
    for role, paths in (("labels", request.labels), ("ids", request.ids)):
        for split, path in paths:
            array = gathered[split or "train", role, ""] = only(path, role, request.names)
            origins[array.where] = path
    if request.classifier is not None:
        source = open_source(request.classifier)
        arrays = _sort("", source, {})
        opened.append(("", request.classifier, source))
        classifier_names = _class_names(arrays, source, request.classifier)
        _merge(gathered, {key: array for key, array in arrays.items() if key[1] in ("weight", "bias")})
    classifier = {role: gathered["", role, ""] for role in ("weight", "bias") if ("", role, "") in gathered}
    parts = {split: _with_names(part, origins) for split, part in _parts(gathered, opened).items()}
    used = {array.where for array in gathered.values()} | {part.labels.where for part in parts.values() if part.labels}
    # The file of the classifier may be a whole model's: its other arrays are not worth a line.
    sources = [source for _, _, source in opened[: len(request.sources)]]
    unused = [array for source in sources for array in source.arrays if array.where not in used]
    notes = tuple(line for _, _, source in opened for line in source.notes)
    if unused:
        notes += (f"not used: {_listing(unused)}; give --column SPLIT/ROLE=NAME for one that belongs to a split",)
    return Gathered(parts, classifier, classifier_names, notes)


def _sort(split: str, source: Source, names: Mapping[str, str]) -> Arrays:
    """The arrays of a file by split, role and view. Arrays whose names say nothing are left out."""
    arrays: Arrays = {}
    of_others: Arrays = {}
    for array in source.arrays:
        named = meaning(array.name, array.local, names, split)
        if len(source.arrays) == 1 and not array.local and (named is None or named.role not in ("weight", "bias")):
            # A file that is one array holds features, whatever it is called.
            key = (split or (named.split if named else "") or "train", "features", "clean")
        elif named is None or (split and named.role == "split"):
            continue
        elif named.role == "classes":
            key = (split or named.split, "classes", "")
        elif named.role in ("weight", "bias"):
            key = ("", named.role, "")
        else:
            key = (split or named.split or "train", named.role, named.view)
        # The user said train=FILE, and the array is called after test. It is taken only if train has no other.
        other = named is not None and split != "" and named.split not in ("", split)
        _merge(of_others if other else arrays, {key: array})
    return of_others | arrays


def _merge(arrays: Arrays, more: Arrays) -> None:
    """Add the arrays of `more`. Raises CacheInvalid where two may be the same thing."""
    for key, array in more.items():
        if key in arrays and arrays[key].where != array.where:
            role = " ".join(part for part in key if part not in ("", "clean"))
            raise CacheInvalid(
                f"{array.where}: may be the {role}, and so may {arrays[key].where}; say which with --column {key[1]}=NAME"
            )
        arrays[key] = array


def _class_names(arrays: Arrays, source: Source, path: Path) -> SourceArray | None:
    """The class names that a file has for all of its splits, or None. They are added to `arrays` for each split."""
    class_names = arrays.pop(("", "classes", ""), None)
    if class_names is None and "classes" in source.metadata:
        where = f"{path}[metadata classes]"
        class_names = _text_array(where, listed(where, source.metadata["classes"]))
    if class_names is not None:
        splits = {split for split, role, _ in arrays if split and role in ("features", "labels")}
        for split in splits or {""}:
            arrays.setdefault((split, "classes", ""), class_names)
    return class_names


def _with_names(part: Part, origins: Mapping[str, Path]) -> Part:
    """The split with the file of its labels, and with class names that the file holds for these labels alone."""
    if part.labels is None:
        return part
    names = part.names
    if names is None and part.labels.classes:
        names = _text_array(f"{part.labels.where}'s class names", part.labels.classes)
    return replace(part, names=names, origin=origins.get(part.labels.where))


def _text_array(where: str, names: Sequence[str]) -> SourceArray:
    values = np.array([sound(where, name) for name in names], dtype=str)
    return SourceArray("classes", where, values.shape, str(values.dtype), lambda: iter([values]))


def only(path: Path, role: str, names: Mapping[str, str]) -> SourceArray:
    """The labels, ids or class names in a file of their own: its only array, or the one whose name says so."""
    arrays = open_source(path).arrays
    meanings = [meaning(array.name, array.local, names) for array in arrays]
    fitting = [array for array, named in zip(arrays, meanings, strict=True) if named is not None and named.role == role]
    if len(arrays) != 1 and len(fitting) != 1:
        raise CacheInvalid(f"{path}: no {role} among {_listing(arrays)}; say which with --column {role}=NAME")
    return arrays[0] if len(arrays) == 1 else fitting[0]


def _parts(gathered: Arrays, opened: Sequence[tuple[str, Path, Source]]) -> dict[str, Part]:
    arrays = [array for _, _, source in opened for array in source.arrays]
    passed_over = [text for _, _, source in opened for text in source.passed_over]
    images = (
        f" ({', '.join(passed_over)}: images or paths, not features; see `coattail extract`)" if passed_over else ""
    )
    parts: dict[str, Part] = {}
    of_rows = ("features", "labels", "ids")
    for split in dict.fromkeys(split for split, role, _ in gathered if split and role in of_rows):
        views = {view: array for (*key, view), array in sorted(gathered.items()) if key == [split, "features"]}
        if not NAME.fullmatch(split):
            raise CacheInvalid(f"split {shown(split)}: wanted letters, digits, dots, dashes and underscores")
        if "clean" not in views:
            raise CacheInvalid(
                f"split {split}: no features among {_listing(arrays)}{images}; "
                "name them features, embeddings or x, or say --column features=NAME"
            )
        names = gathered.get((split, "classes", ""), gathered.get(("", "classes", "")))
        part = Part(views, gathered.get((split, "labels", "")), gathered.get((split, "ids", "")), None, names)
        parts |= _divided(part, gathered[split, "split", ""]) if (split, "split", "") in gathered else {split: part}
    if not parts:
        raise CacheInvalid(
            f"no features among {_listing(arrays)}{images}; "
            "name them features, embeddings or x, or say --column features=NAME"
        )
    parts = _labels_by_length(parts, arrays)
    for split, part in parts.items():
        if part.labels is None:
            raise CacheInvalid(
                f"split {split}: no labels among {_listing(arrays)}; "
                f"name them labels or y, say --column {split}/labels=NAME, or give --labels {split}=FILE"
            )
    if "train" not in parts:
        raise CacheInvalid(f"no split train, found {', '.join(parts)}; name its file with train=FILE")
    return parts


def _labels_by_length(parts: dict[str, Part], arrays: list[SourceArray]) -> dict[str, Part]:
    """The splits, of which one without labels gets an unused array as its labels, if only one array fits.

    An array fits that has one whole number or text for each row of this split. No other split without labels may have as many
    rows.
    """
    used = {array.where for part in parts.values() for array in (*part.views.values(), part.labels, part.ids) if array}
    unused = [array for array in arrays if array.where not in used and _may_be_labels(array)]
    bare = {split: part.views["clean"].rows for split, part in parts.items() if part.labels is None}
    filled = dict(parts)
    for split, rows in bare.items():
        fitting = [array for array in unused if array.rows == rows]
        if len(fitting) == 1 and list(bare.values()).count(rows) == 1:
            filled[split] = replace(parts[split], labels=fitting[0])
    return filled


def _may_be_labels(array: SourceArray) -> bool:
    """Whether an array has one whole number or text a row, and a name that says nothing else."""
    return (
        len(array.shape) == 1 and np.dtype(array.dtype).kind in "iuU" and meaning(array.name, array.local, {}) is None
    )


def _divided(part: Part, split: SourceArray) -> dict[str, Part]:
    """The rows divided by a column that names the split of each. A split has only the views that hold something for it."""
    values_N = np.array([SPLITS.get(value.lower(), value) for value in split.read().astype(str).tolist()])
    if len(values_N) != part.views["clean"].rows:
        raise CacheInvalid(f"{split.where}: wanted {part.views['clean'].rows} values, found {len(values_N)}")
    divided = {}
    for value in dict.fromkeys(values_N.tolist()):
        rows_N = np.flatnonzero(values_N == value)
        views = {
            view: array
            for view, array in part.views.items()
            if view == "clean" or array.missing_N is None or not array.missing_N[rows_N].all()
        }
        if not NAME.fullmatch(value):
            raise CacheInvalid(
                f"{split.where}: split {shown(value)}: wanted letters, digits, dots, dashes and underscores"
            )
        divided[value] = replace(part, views=views, rows_N=rows_N)
    return divided


def _listing(arrays: Iterable[SourceArray], limit: int = 8) -> str:
    names = [str(array) for array in arrays]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "") or "nothing"
