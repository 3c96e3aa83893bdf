"""Images in one folder a class."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.class_names import checked, in_order, spelled
from pipeline.images.sources.source import SPLIT_OF_WORD, Raw, Source, expand, portable, take_files
from pipeline.progress import note
from pipeline.settings.stage1 import Data

SUFFIXES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".png", ".apng", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
}
"""Suffixes of image files, in small letters. Capital letters mean the same."""
LEFT_FILES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
LEFT_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
"""Files and folders that Windows, macOS and network disks leave behind. Hidden ones are passed over as well."""


@dataclass(frozen=True)
class _Found:
    """The content of one class folder.

    `passed_over` counts files that are no images, by suffix. `left_behind` counts files that other programs leave, such as
    Thumbs.db.
    """

    images: list[Path]
    passed_over: Counter[str]
    left_behind: int


def load_folder(data: Data) -> Source:
    """Splits from `data.train`, `data.val`, `data.test`, each a folder of class folders; images may lie deeper.

    Class names: `data.classes`, else the folders of the training split in the order of their characters, as torchvision's
    ImageFolder has it: 1, 10, 2. The other splits' folders are matched by name. The folders are one's own: links to
    folders of a class and to images are followed.
    """
    roots = {name: _root(name, data) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    folders = {name: _class_folders(f"data.{name} {root}", root) for name, root in roots.items()}
    in_train = sorted(folders["train"])
    if not in_train:
        raise DataError(f"data.train {roots['train']}: wanted one folder of images a class, found no folder")
    if {folder.lower() for folder in in_train} <= set(SPLIT_OF_WORD):
        raise DataError(
            f"data.train {roots['train']}: wanted one folder a class, found {', '.join(in_train)}; point data.train and "
            "data.test at those"
        )
    classes = checked("data.classes", data.classes) or tuple(in_train)
    for name, names in folders.items():
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise DataError(
                f"data.{name} {roots[name]}: wanted the {len(classes)} class folders {_some(classes)}, found {unknown[0]!r} too; "
                "rename or remove it"
            )
    if not data.classes and in_order(in_train) != in_train:
        note(
            f"data.train {roots['train']}: folders named by numbers are classes in the order of their characters "
            f"({_some(classes)}), as in torchvision's ImageFolder; for another order set data.classes"
        )
    return Source(classes, {name: _raw(f"data.{name}", root, classes, folders[name]) for name, root in roots.items()})


def _root(name: str, data: Data) -> Path:
    root = expand(f"data.{name}", getattr(data, name))
    if not root.is_dir():
        raise DataError(f"data.{name} {root}: wanted a folder with one folder of images a class, found none there")
    return root


def _class_folders(key: str, root: Path) -> dict[str, str]:
    """Class name -> folder. Raises DataError for two folders whose names mean one class."""
    folder_of: dict[str, str] = {}
    try:
        entries = list(os.scandir(root))
    except OSError as error:
        _cannot_be_read(error)
    for folder in sorted(entry.name for entry in entries if entry.is_dir() and not _is_left(entry.name)):
        name = spelled(folder)
        if name in folder_of:
            raise DataError(
                f"{key}: the folders {portable(folder_of[name])!r} and {portable(folder)!r} mean one class, {name!r}: their "
                "accents are written in two ways; put their images into one"
            )
        folder_of[name] = folder
    return folder_of


def _is_left(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in LEFT_FOLDERS or name.lower() in LEFT_FILES


def _raw(key: str, root: Path, classes: Sequence[str], folders: dict[str, str]) -> Raw:
    inside = {name: _inside(root / folders[name]) for name in classes if name in folders}
    _say_passed_over(key, root, inside)
    images = [inside[name].images if name in inside else [] for name in classes]
    flat = [str(path.relative_to(root)) for group in images for path in group]
    labels_N = np.repeat(np.arange(len(classes)), [len(group) for group in images])
    ids = [portable(path) for path in flat]
    return Raw(ids, labels_N, partial(take_files, root, flat), ids)


def _inside(folder: Path) -> _Found:
    """What lies in a class folder, at any depth. Raises DataError for a folder that cannot be read."""
    images: list[Path] = []
    passed_over: Counter[str] = Counter()
    left = 0
    for where, _, names in os.walk(folder, onerror=_cannot_be_read):
        inner = Path(where)
        is_left = any(_is_left(part) for part in inner.relative_to(folder).parts)
        for path in (inner / name for name in names):
            if not path.is_file():
                continue
            if is_left or _is_left(path.name):
                left += 1
            elif path.suffix.lower() in SUFFIXES:
                images.append(path)
            else:
                passed_over[path.suffix.lower() or "no suffix"] += 1
    return _Found(sorted(images), passed_over, left)


def _cannot_be_read(error: OSError) -> NoReturn:
    raise DataError(f"folder {error.filename}: {error.strerror}; make it readable, or move it away") from None


def _say_passed_over(key: str, root: Path, inside: dict[str, _Found]) -> None:
    """One line on what is taken and what is not, by suffix and class, where there are files that are no images."""
    beside = sum(entry.is_file() and not _is_left(entry.name) for entry in os.scandir(root))
    left = sum(contents.left_behind for contents in inside.values())
    over = {name: contents for name, contents in inside.items() if contents.passed_over}
    taken = Counter(path.suffix.lower() for contents in inside.values() for path in contents.images)
    parts = [
        f"{name}: {_counts(contents.passed_over)} beside {len(contents.images)} images"
        for name, contents in over.items()
    ]
    said = [f"passed over in {listed(parts)}"] if parts else []
    said += [f"{left} files that other programs leave are passed over"] if left else []
    said += [f"{beside} files lie in no class folder and are passed over"] if beside else []
    if said:
        note(f"{key} {root}: taken {_counts(taken)}; {'; '.join(said)}")


def _counts(suffixes: Counter[str]) -> str:
    return listed([f"{count} {suffix}" for suffix, count in suffixes.most_common()]) or "no image"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
