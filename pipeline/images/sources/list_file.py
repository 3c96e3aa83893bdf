"""Images named by list files, `path label` a line, as ImageNet-LT and Places-LT are published."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.images.sources import places
from pipeline.images.sources.class_names import checked, spelled
from pipeline.images.sources.list_lines import Lines, check_two_numbers, missing_error, read_list, with_slashes
from pipeline.images.sources.source import Raw, Source, check_labels, portable, take_files
from pipeline.progress import Track, note, track
from pipeline.settings.stage1 import Data

STEP = 1000
"""Files between two steps of the bar."""
MISSING_LIMIT = 10_000
"""After so many missing files of a list the search stops: the root is wrong, and the rest would say no more."""


def load_list(data: Data) -> Source:
    """Splits from the list files `data.train`, `data.val`, `data.test`; files under `data.root`, by default the list's folder.

    Class names: `data.classes`, else each label's folder where that is one of its own, else the labels. Where folders
    name the classes, all lists must number them alike. Raises DataError for a line that is not `path label`, a path
    listed twice, a label out of range, and missing files, which are counted over all splits first.

    A list may be a stranger's: a path that leads out of the root, by its words, is refused. Links under the root are one's
    own, and are followed.
    """
    lists = {name: read_list(name, data) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    lists = {name: with_slashes(lines) for name, lines in lists.items()}
    for lines in lists.values():
        check_two_numbers(lines)
    folders = _folders(lists["train"])
    named = checked("data.classes", data.classes)
    classes = named or _names(folders)
    for lines in lists.values():
        check_labels(lines.key, lines.file, np.array(lines.labels, dtype=np.int64), classes)
    _check_numbers(lists, folders, named)
    places_of = _resolved(lists, folders)
    return Source(classes, {name: _raw(lines, places_of[name], folders) for name, lines in lists.items()})


def _folders(train: Lines) -> list[str]:
    """The folder that each label's training images lie in; "" where there is none or more than one."""
    if max(train.labels) >= len(train.labels):
        raise DataError(
            f"{train.key} {train.file}: wanted labels from 0, one number a class, found {max(train.labels)} "
            f"in {len(train.labels)} lines; correct the labels"
        )
    folders_of: list[set[str]] = [set() for _ in range(max(train.labels) + 1)]
    for path, label in zip(train.paths, train.labels, strict=True):
        if label >= 0:
            folders_of[label].add(_folder(path))
    return [spelled(next(iter(names))) if len(names) == 1 else "" for names in folders_of]


def _folder(path: str) -> str:
    """The class folder that a path names; "" where it names none."""
    plain = path if "//" not in path and "./" not in path else Path(path).as_posix()
    place = places.parse(plain)
    return place.folder if place else plain.rpartition("/")[0].rpartition("/")[2]


def _tell_apart(folders: Sequence[str]) -> bool:
    return all(folders) and len(set(folders)) == len(folders)


def _names(folders: Sequence[str]) -> tuple[str, ...]:
    return tuple(folders) if _tell_apart(folders) else tuple(str(label) for label in range(len(folders)))


def _check_numbers(lists: Mapping[str, Lines], folders: Sequence[str], named: Sequence[str]) -> None:
    """Raises DataError where a folder that is one class in the training list, or by its name, has another label.

    Where folders cannot tell, a note says so.
    """
    if not _tell_apart(folders):
        _say_unchecked([lines for name, lines in lists.items() if name != "train"], lists["train"])
        return
    numbers = {folder: label for label, folder in enumerate(folders)}
    source = str(lists["train"].file)
    if named and set(folders) <= set(named):
        numbers, source = {name: label for label, name in enumerate(named)}, "data.classes"
    unchecked = []
    for name, lines in lists.items():
        wanted = [numbers.get(spelled(_folder(path))) for path in lines.paths]
        wrong = [row for row, label in enumerate(wanted) if label is not None and label != lines.labels[row]]
        if wrong:
            row = wrong[0]
            raise DataError(
                f"{lines.key} {lines.file}: {lines.paths[row]}: has the label {lines.labels[row]}, where the folder "
                f"{_folder(lines.paths[row])!r} is class {wanted[row]} by {source} ({len(wrong)} such lines); number the "
                "classes alike"
            )
        if name != "train" and all(label is None for label in wanted):
            unchecked.append(lines)
    _say_unchecked(unchecked, lists["train"])


def _say_unchecked(lists: Sequence[Lines], train: Lines) -> None:
    for lines in lists:
        note(
            f"{lines.key} {lines.file}: its labels are numbers only; whether they number the classes as {train.file} does "
            "cannot be checked"
        )


def _resolved(lists: Mapping[str, Lines], folders: Sequence[str]) -> dict[str, list[str | None]]:
    """Where each file lies under its root. Raises DataError where files are missing."""
    total = sum(len(lines.paths) for lines in lists.values())
    places_of: dict[str, list[str | None]] = {}
    missing: list[str] = []
    with track(total, "looking for listed files", "files") as progress:
        for name, lines in lists.items():
            places_of[name] = _resolve(lines, folders, progress)
            missing += [path for path, place in zip(lines.paths, places_of[name], strict=False) if place is None]
            if len(places_of[name]) < len(lines.paths):
                break
    if missing:
        is_whole = total == sum(len(places) for places in places_of.values())
        raise missing_error(missing, total, [lines.root for lines in lists.values()], is_whole=is_whole)
    return places_of


def _resolve(lines: Lines, folders: Sequence[str], progress: Track) -> list[str | None]:
    """Where each file lies under the root, in whichever dialect; None where it is missing; it stops after many of those."""
    resolved: list[str | None] = []
    latest = missing = 0
    for path, label in zip(lines.paths, lines.labels, strict=True):
        names = places.candidates(path, folders[label] if label < len(folders) else "")
        latest = min(latest, len(names) - 1)
        order = [latest, *(index for index in range(len(names)) if index != latest)]
        latest = next((index for index in order if os.path.isfile(os.path.join(lines.root, names[index]))), -1)
        resolved.append(names[latest] if latest >= 0 else None)
        missing += latest < 0
        if len(resolved) % STEP == 0:
            progress.advance(STEP)
        if missing >= MISSING_LIMIT:
            break
        latest = max(latest, 0)
    return resolved


def _raw(lines: Lines, resolved: Sequence[str | None], folders: Sequence[str]) -> Raw:
    """Ids are the paths as `train/<class>/<file>` where they are of Places or alike, so that all dialects give one cache."""
    ids = [
        _sample_id(path, folders[label] if label < len(folders) else "")
        for path, label in zip(lines.paths, lines.labels, strict=True)
    ]
    seen: set[str] = set()
    for sample_id in ids:
        if sample_id in seen:
            raise DataError(f"{lines.key} {lines.file}: {sample_id} is listed twice; keep one of the lines")
        seen.add(sample_id)
    paths = [str(path) for path in resolved]
    shown = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
    return Raw(ids, np.array(lines.labels, dtype=np.int64), partial(take_files, lines.root, paths), shown)


def _sample_id(path: str, folder: str) -> str:
    place = places.parse(path)
    if place is None:
        return portable(path)
    return portable(places.Place(place.split, place.folder or folder, place.file).canonical)
