"""Labels and sample ids as users keep them, read as class numbers 0 to C-1 that mean the same in every split, and unique ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.classes import CLASS_LIMIT, Named, in_order, translation
from cache.exchange.gather import Part
from cache.exchange.source import SourceArray
from cache.exchange.texts import comparable, shown, sound, texts

Labels = NDArray[Any]
"""Labels as a file holds them, one a row: whole numbers, truth values or text."""


@dataclass(frozen=True)
class Labelled:
    """The classes, the labels of each split, (N,), and lines that the user should read."""

    classes: Named
    given: bool
    """Whether the user's files give the order of the classes. Else it follows from the labels themselves."""
    text: bool
    """Whether the labels are names."""
    labels: dict[str, NDArray[np.int64]]
    notes: list[str] = field(default_factory=list)


def class_labels(
    parts: Mapping[str, Part], order: Named | None, names: Mapping[str, Named], notes: list[str] | None = None
) -> Labelled:
    """The class numbers of each split, all in the order of one list of class names.

    `order` is the list that the user gave. `names` has the list in a split's own file, which says what the numbers there
    mean: they are translated by the names. Text labels are looked up in the list.
    Raises CacheInvalid for a label of another kind, out of range, or of a class that the list does not have.
    """
    notes = [] if notes is None else notes
    values = {split: _raw(split, part, notes) for split, part in parts.items()}
    text = [split for split, values_N in values.items() if values_N.dtype.kind == "U"]
    bare = [split for split in parts if split not in text and split not in names]
    if text and bare:
        raise CacheInvalid(
            f"labels are text in {', '.join(text)} and numbers without names in {', '.join(bare)}; give the same in all"
        )
    given = order or names.get("train") or (None if text else next(iter(names.values()), None))
    wanted = given or _unnamed(parts, values, text, notes)
    labels = {}
    for split, values_N in values.items():
        if split in text:
            labels[split] = _looked_up(parts[split], values_N, wanted)
        else:
            labels[split] = _numbers(parts[split], values_N, names.get(split), wanted, given is None, notes)
    _note_unchecked(parts, bare, notes)
    return Labelled(wanted, given is not None, bool(text), labels, notes)


def sample_ids(part: Part, rows: int) -> list[str]:
    """A unique id for each row: the given ones, else the numbers of the rows in their file."""
    if part.ids is None:
        return [str(row) for row in (range(rows) if part.rows_N is None else part.rows_N.tolist())]
    _same_length(part, part.ids, "ids")
    ids = texts(part.ids)
    chosen = ids if part.rows_N is None else [ids[row] for row in part.rows_N.tolist()]
    first: dict[str, int] = {}
    for row, sample_id in enumerate(chosen):
        if sample_id in first:
            raise CacheInvalid(
                f"{part.ids.where}: id {shown(sample_id)} stands twice (rows {first[sample_id]} and {row}); "
                "ids are unique in a split"
            )
        first[sample_id] = row
    return chosen


def _raw(split: str, part: Part, notes: list[str]) -> Labels:
    """The labels of a split as its file holds them, one a row: whole numbers or text."""
    assert part.labels is not None  # gather refuses a split without labels
    where, rows = part.labels.where, part.views["clean"].rows
    if len(part.labels.shape) == 2 and part.labels.shape[0] == rows:
        values_N = _of_table(split, part.labels, notes)
    else:
        _same_length(part, part.labels, "labels")
        values_N = part.labels.read()
    if values_N.dtype.kind == "f":
        raise CacheInvalid(
            f"{where}: wanted labels as whole numbers or text, found {values_N.dtype}; save labels.astype(int)"
        )
    if values_N.dtype.kind not in "iubU":
        raise CacheInvalid(f"{where}: wanted labels as whole numbers or text, found {values_N.dtype}")
    return values_N if part.rows_N is None else values_N[part.rows_N]


def _of_table(split: str, array: SourceArray, notes: list[str]) -> Labels:
    """The labels in an array of two axes: one value a row, or one-hot rows, whose class is the place of the 1."""
    values_NC = array.read()
    if values_NC.shape[1] == 1:
        return values_NC[:, 0]
    numbers = values_NC.dtype.kind in "iubf"
    hot_NC = values_NC == 1 if numbers else np.zeros(values_NC.shape, bool)
    if not (numbers and (hot_NC.sum(axis=1) == 1).all() and ((values_NC == 0) | hot_NC).all()):
        raise CacheInvalid(
            f"{array.where}: wanted one label a row, or one-hot rows of a single 1 and zeros, found {array.shape}; make labels "
            "of scores with scores.argmax(axis=1)"
        )
    notes.append(f"{split}: labels {array.where} are one-hot, {array.shape}: the class of a row is where its 1 stands")
    return hot_NC.argmax(axis=1)


def _same_length(part: Part, array: SourceArray, what: str) -> None:
    features = part.views["clean"]
    if array.shape != (features.rows,):
        raise CacheInvalid(
            f"{array.where}: wanted {features.rows} {what}, one for each row of {features.where}, found {array.shape}"
        )


def _unnamed(parts: Mapping[str, Part], values: Mapping[str, Labels], text: list[str], notes: list[str]) -> Named:
    """The class names where no list gives them: the text labels, or as many numbers as the labels need."""
    if text:
        names, unified = in_order(set().union(*(_texts(parts[split], values[split]) for split in text)))
        if unified:
            notes.append(
                f"labels: {unified} spellings differ from another only in spaces or in how an accent is written; they are "
                "taken as the same class"
            )
        return Named("labels", tuple(sound("labels", name) for name in names))
    highest = max(int(values_N.max()) for values_N in values.values())
    lowest = min(int(values_N.min()) for values_N in values.values())
    if lowest > 0 and highest < CLASS_LIMIT:
        notes.append(
            f"labels run from {lowest} to {highest}: class 0 has no row in any split; "
            f"if the first class is {lowest}, subtract {lowest} from all"
        )
    return Named("labels", tuple(str(number) for number in range(1 + min(max(highest, 0), CLASS_LIMIT - 1))))


def _texts(part: Part, values_N: Labels) -> set[str]:
    """The different labels of a split that are text, as they are spelt. Raises CacheInvalid for one that no file can hold."""
    assert part.labels is not None
    texts = set(values_N.tolist())
    for text in texts:
        sound(part.labels.where, text)
    return texts


def _numbers(
    part: Part, values_N: Labels, own: Named | None, wanted: Named, unnamed: bool, notes: list[str]
) -> NDArray[np.int64]:
    """Class numbers, checked, and translated from the list of the split's own file to the wanted one."""
    limit = CLASS_LIMIT if unnamed else len((own or wanted).names)
    outside_N = (values_N < 0) | (values_N >= limit)
    if outside_N.any():
        row = int(outside_N.argmax())
        _refuse(part, row, f"label {values_N[row]}, wanted 0 to {limit - 1}{_hint(values_N, limit)}")
    labels_N = values_N.astype(np.int64)
    if own is None or own == wanted:
        return labels_N
    moved_C = translation(own, wanted)
    if (moved_C < 0).all() and len(moved_C) == len(wanted.names):
        notes.append(
            f"{own.where}: no name there is one of {wanted.where}; class numbers are kept, the names are the latter's"
        )
        return labels_N
    if (moved_C[labels_N] < 0).any():
        row = int((moved_C[labels_N] < 0).argmax())
        _refuse(
            part, row, f"class {shown(own.names[labels_N[row]])} is none of the {len(wanted.names)} of {wanted.where}"
        )
    if not np.array_equal(moved_C, np.arange(len(moved_C))):
        notes.append(f"{own.where}: numbers the classes in another order than {wanted.where}; rows are matched by name")
    return moved_C[labels_N]


def _hint(values_N: Labels, limit: int) -> str:
    """What the user may have meant by labels that are out of range; empty where that is not clear."""
    count = int((values_N == -1).sum())
    if count and (values_N >= -1).all():
        return f"; -1 often marks rows without a label ({count} here): leave them out, or number the classes from 0"
    if int(values_N.min()) == 1 and int(values_N.max()) == limit:
        return "; the labels begin at 1: subtract 1 from all"
    return ""


def _looked_up(part: Part, values_N: Labels, wanted: Named) -> NDArray[np.int64]:
    """The class numbers of text labels."""
    positions = wanted.positions()
    values = values_N.tolist()
    index = {value: positions.get(comparable(value), -1) for value in set(values)}
    labels_N = np.array([index[value] for value in values], dtype=np.int64)
    blank_N = np.array([not comparable(value) for value in values], dtype=bool)
    if blank_N.any():
        _refuse(part, int(blank_N.argmax()), "the label is blank; give the row a class, or leave it out")
    if (labels_N < 0).any():
        row = int((labels_N < 0).argmax())
        _refuse(part, row, f"label {shown(values[row])} is none of the {len(wanted.names)} classes of {wanted.where}")
    return labels_N


def _note_unchecked(parts: Mapping[str, Part], bare: list[str], notes: list[str]) -> None:
    """Note class numbers without names that come from several files: nothing shows that they mean the same classes."""
    origins = {split: parts[split].origin for split in bare}
    if len(set(origins.values())) > 1:
        notes.append(
            f"{' and '.join(bare)} hold class numbers without names, in files of their own: that a number means the same "
            "class in each cannot be checked"
        )


def _refuse(part: Part, row: int, reason: str) -> None:
    assert part.labels is not None
    source_row = row if part.rows_N is None else int(part.rows_N[row])
    raise CacheInvalid(f"{part.labels.where}: row {source_row}: {reason}")
