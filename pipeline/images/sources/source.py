"""What every source of images gives: class names and, for each split, ids, labels and images. Also how paths are read."""

import glob
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, overload

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.images.decoding import Item
from pipeline.longtail import Rows

SPLIT_WORDS = {
    "train": ("train", "training", "tr"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "te", "eval"),
}
"""How columns, arrays, folders and files call each split, in small letters."""
SPLIT_OF_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}
SHOWN = 120
"""Characters of a path or line that an error shows."""


@dataclass(frozen=True)
class Raw:
    """One split as its source has it: N ids, labels (N,), and `take(rows)` for the images of some rows."""

    sample_ids: list[str]
    labels_N: Rows
    take: Callable[[Rows], Sequence[Item]]
    paths: list[str] | None = None


@dataclass(frozen=True)
class DeferredItems(Sequence[Item]):
    """Images that are read when they are asked for, `read(row)` for each of these rows."""

    read: Callable[[int], Item]
    rows: Sequence[int] | Rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: Any) -> Any:
        return DeferredItems(self.read, self.rows[index]) if isinstance(index, slice) else self.read(self.rows[index])


@dataclass(frozen=True)
class Source:
    """Class names in label order and the splits, of which `train` is always there."""

    classes: tuple[str, ...]
    splits: dict[str, Raw]


def expand(key: str, text: str) -> Path:
    """A path setting with `~` and `$VARIABLE` replaced.

    Raises ConfigError for a variable that is not set, for `~name` where there is no such user, for no path, and for one
    that cannot be looked at.
    """
    if not text:
        raise ConfigError(f"{key}: wanted a path, found nothing; give one with --set {key}=PATH")
    if "\0" in text:
        raise ConfigError(f"{key} {text!r}: wanted a path, found a NUL in it; give one with --set {key}=PATH")
    for name in re.findall(r"\$\{?(\w+)\}?", text):
        if name not in os.environ:
            raise ConfigError(
                f"{key} {text}: the variable ${name} is not set; export {name}=FOLDER, or give a path with "
                f"--set {key}=PATH{_torchvision(text)}"
            )
    try:
        path = Path(os.path.expandvars(text)).expanduser()
        path.stat()
    except RuntimeError:
        user = text.split("/")[0]
        raise ConfigError(f"{key} {text}: there is no user {user}; give a path with --set {key}=PATH") from None
    except (FileNotFoundError, NotADirectoryError):
        pass  # the caller knows what is wanted there
    except OSError as error:
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
        raise ConfigError(
            f"{key} {shown}: {error.strerror}; give a path that can be read with --set {key}=PATH"
        ) from None
    return path


def _torchvision(text: str) -> str:
    match = re.search(r"\bcifar100?\b", text)
    return f", or take torchvision's with --set data.source={match[0]} --set data.train=FOLDER" if match else ""


def files(key: str, text: str, pattern: str) -> list[Path]:
    """The file, the files in the folder that match `pattern`, or those that a glob names, sorted. Raises DataError for none."""
    path = expand(key, text)
    if path.is_dir():
        matching = sorted(path.glob(pattern))
    elif glob.has_magic(str(path)):
        matching = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    else:
        matching = [path] if path.is_file() else []
    if not matching:
        raise DataError(f"{key} {path}: no such file; wanted a file, a folder with {pattern}, or a glob")
    return matching


def portable(path: str) -> str:
    """A path as a sample's id: forward slashes, and text even where the file system's bytes are not."""
    return Path(path).as_posix().encode("utf-8", "backslashreplace").decode()


def take_files(root: Path, paths: Sequence[str], rows: Rows) -> list[Item]:
    """The files of the rows."""
    return [root / paths[row] for row in rows]


def leads_outside(path: str) -> bool:
    """Whether a path is absolute or leads upwards, as POSIX or Windows reads it."""
    if ".." not in path and ":" not in path and path[:1] not in ("/", "\\"):
        return False
    windows = PureWindowsPath(path)
    return ".." in windows.parts or bool(windows.anchor)


def check_labels(key: str, where: Path | str, labels_N: Rows, classes: Sequence[str]) -> None:
    """Raises DataError for the first label outside 0 … C - 1."""
    wrong_N = np.flatnonzero((labels_N < 0) | (labels_N >= len(classes)))
    if len(wrong_N) == 0:
        return
    row = int(wrong_N[0])
    if (labels_N[wrong_N] == -1).all():
        raise DataError(
            f"{key} {where}: row {row}: found the label -1 ({len(wrong_N)} of {len(labels_N)} rows), which often marks "
            "images without a label; leave those rows out, or give a file with labels"
        )
    raise DataError(
        f"{key} {where}: row {row}: wanted a label from 0 to {len(classes) - 1}, found {labels_N[row]} "
        f"({len(wrong_N)} such rows); {len(classes)} classes are named: correct the labels, or data.classes"
    )
