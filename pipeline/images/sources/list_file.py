"""Images named by list files, `path label` a line, as ImageNet-LT and Places-LT are published."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PureWindowsPath

import numpy as np

from pipeline.errors import DataError
from pipeline.images.sources import places
from pipeline.images.sources.folder import portable, take_files
from pipeline.images.sources.source import Raw, Source, check_labels, expand
from pipeline.settings.stage1 import Data

NAMED_MISSING = 5


@dataclass(frozen=True)
class _List:
    """A list file's paths, as written, and labels, with the setting that named it."""

    key: str
    file: Path
    paths: list[str]
    labels: list[int]


def load_list(data: Data) -> Source:
    """Splits from the list files `data.train`, `data.val`, `data.test`; files under `data.root`, by default the list's folder.

    Class names: `data.classes`, else each label's folder where that is one of its own, else the labels. Raises
    DataError for a line that is not `path label`, a path listed twice, a label out of range, and missing files, which
    are counted over all splits first. A list may be a stranger's: a path that leads out of the root, by its words, is
    refused; links under the root are one's own, and are followed.
    """
    lists = {name: _read(name, data) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    train = lists["train"]
    folders = _folders(train)
    classes = data.classes or _names(folders)
    for listed in lists.values():
        check_labels(listed.key, listed.file, np.array(listed.labels, dtype=np.int64), classes)
    roots = {
        name: expand("data.root", data.root) if data.root else listed.file.parent for name, listed in lists.items()
    }
    found = {name: _resolve(roots[name], listed, folders) for name, listed in lists.items()}
    _check_missing(lists, found, roots)
    return Source(classes, {name: _raw(roots[name], listed, found[name], folders) for name, listed in lists.items()})


def _read(name: str, data: Data) -> _List:
    key = f"data.{name}"
    file = expand(key, getattr(data, name))
    try:
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError as error:
        raise DataError(f"{key} {file}: wanted a list file, `path label` a line ({error.strerror})") from None
    paths: list[str] = []
    labels: list[int] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        path, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not path.strip() or not label.removeprefix("-").isdecimal():
            raise DataError(
                f"{key} {file}: line {number}: wanted `path label` with an integer label last, found {line!r}"
            )
        if _leads_outside(path.strip()):
            raise DataError(
                f"{key} {file}: line {number}: wanted a path under data.root, found {path.strip()!r}; write the paths without "
                "`..` or a leading `/`, and set data.root to the folder they start from"
            )
        paths.append(path.strip())
        labels.append(int(label))
    if not paths:
        raise DataError(f"{key} {file}: wanted `path label` a line, found no line")
    return _List(key, file, paths, labels)


def _leads_outside(path: str) -> bool:
    """Absolute, or upwards, as POSIX or Windows reads it."""
    windows = PureWindowsPath(path)
    return ".." in windows.parts or bool(windows.anchor)


def _folders(train: _List) -> list[str]:
    """The folder that each label's training images lie in; "" where there is none or more than one."""
    if max(train.labels) >= len(train.labels):
        raise DataError(
            f"{train.key} {train.file}: wanted labels from 0, one number a class, found {max(train.labels)} "
            f"in {len(train.labels)} lines; correct the labels"
        )
    found: list[set[str]] = [set() for _ in range(max(train.labels) + 1)]
    for path, label in zip(train.paths, train.labels, strict=True):
        place = places.parse(path)
        if label >= 0:
            found[label].add(place.folder if place else Path(path).parent.name)
    return [next(iter(names)) if len(names) == 1 else "" for names in found]


def _names(folders: list[str]) -> tuple[str, ...]:
    told_apart = all(folders) and len(set(folders)) == len(folders)
    return tuple(folders) if told_apart else tuple(str(label) for label in range(len(folders)))


def _resolve(root: Path, listed: _List, folders: list[str]) -> list[str | None]:
    """Where each file lies under the root, in whichever dialect; None where it is missing."""
    found: list[str | None] = []
    latest = 0
    for path, label in zip(listed.paths, listed.labels, strict=True):
        names = places.candidates(path, folders[label] if label < len(folders) else "")
        latest = min(latest, len(names) - 1)
        order = [latest, *(index for index in range(len(names)) if index != latest)]
        latest = next((index for index in order if os.path.isfile(os.path.join(root, names[index]))), -1)
        found.append(names[latest] if latest >= 0 else None)
        latest = max(latest, 0)
    return found


def _check_missing(lists: dict[str, _List], found: dict[str, list[str | None]], roots: dict[str, Path]) -> None:
    missing = [
        path
        for name, listed in lists.items()
        for path, place in zip(listed.paths, found[name], strict=True)
        if place is None
    ]
    if missing:
        total = sum(len(listed.paths) for listed in lists.values())
        where = ", ".join(str(root) for root in dict.fromkeys(roots.values()))
        named = ", ".join(missing[:NAMED_MISSING]) + (", …" if len(missing) > NAMED_MISSING else "")
        raise DataError(f"{len(missing)} of {total} listed files are missing under {where}: {named}; check data.root")


def _raw(root: Path, listed: _List, found: Iterable[str | None], folders: list[str]) -> Raw:
    """Ids are the paths as `train/<class>/<file>` where they are of Places or alike, so that all dialects give one cache."""
    ids = [
        _sample_id(path, folders[label] if label < len(folders) else "")
        for path, label in zip(listed.paths, listed.labels, strict=True)
    ]
    seen: set[str] = set()
    for sample_id in ids:
        if sample_id in seen:
            raise DataError(f"{listed.key} {listed.file}: {sample_id} is listed twice; keep one of the lines")
        seen.add(sample_id)
    paths = [str(path) for path in found]
    return Raw(ids, np.array(listed.labels, dtype=np.int64), partial(take_files, root, paths), paths)


def _sample_id(path: str, folder: str) -> str:
    place = places.parse(path)
    if place is None:
        return portable(path)
    return portable(places.Place(place.split, place.folder or folder, place.file).canonical)
