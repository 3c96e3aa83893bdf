"""Images in one folder a class."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.sources.source import Raw, Source, expand
from pipeline.longtail import Rows
from pipeline.settings.stage1 import Data

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test"}


def load_folder(data: Data) -> Source:
    """Splits from `data.train`, `data.val`, `data.test`, each a folder of class folders; images may lie deeper.

    Class names: `data.classes`, else the folders of the training split, sorted. The folders are one's own: links to
    folders of a class and to images are followed.
    """
    roots = {name: _root(name, data) for name in ("train", "val", "test") if name == "train" or getattr(data, name)}
    folders = {name: _class_folders(root) for name, root in roots.items()}
    found = folders["train"]
    if not found:
        raise DataError(f"data.train {roots['train']}: wanted one folder of images a class, found no folder")
    if {folder.lower() for folder in found} <= SPLIT_NAMES:
        raise DataError(
            f"data.train {roots['train']}: wanted one folder a class, found {', '.join(found)}; point data.train and data.test "
            "at those"
        )
    classes = data.classes or tuple(found)
    for name, names in folders.items():
        unknown = sorted(set(names) - set(classes))
        if unknown:
            raise DataError(
                f"data.{name} {roots[name]}: wanted the {len(classes)} class folders {_some(classes)}, found {unknown[0]!r} too; "
                "rename or remove it"
            )
    return Source(classes, {name: _raw(root, classes) for name, root in roots.items()})


def _root(name: str, data: Data) -> Path:
    root = expand(f"data.{name}", getattr(data, name))
    if not root.is_dir():
        raise DataError(f"data.{name} {root}: wanted a folder with one folder of images a class, found none there")
    return root


def _class_folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _raw(root: Path, classes: Sequence[str]) -> Raw:
    paths = [_images(root / name) for name in classes]
    flat = [str(path.relative_to(root)) for group in paths for path in group]
    labels_N = np.repeat(np.arange(len(classes)), [len(group) for group in paths])
    return Raw([portable(path) for path in flat], labels_N, partial(take_files, root, flat), flat)


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def portable(path: str) -> str:
    """A path as a sample's id: forward slashes, and text even where the file system's bytes are not."""
    return Path(path).as_posix().encode("utf-8", "backslashreplace").decode()


def take_files(root: Path, paths: Sequence[str], rows: Rows) -> list[Item]:
    """The files of the rows."""
    return [root / paths[row] for row in rows]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
