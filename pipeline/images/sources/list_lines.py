"""The lines of a list file, `path label` each."""

import os
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import DataError
from pipeline.images.sources import places
from pipeline.images.sources.source import SHOWN, expand, leads_outside
from pipeline.settings.stage1 import Data

LIST_BYTES = 512 << 20
"""A list file may have at most so many bytes: 14 million images of ImageNet-21k take about 400 MiB."""
LABEL_LIMIT = 9_999_999
LOOKED_AT = 100
"""Lines that are searched for two numbers: a list is written by one program."""
FIRST = 1000
"""Lines after which a list without a single file that exists is given up."""
NAMED_MISSING = 5


@dataclass(frozen=True)
class Lines:
    """A list file's paths, as written, and labels, with the setting that named it and the folder that the paths start from."""

    key: str
    file: Path
    root: Path
    paths: list[str]
    labels: list[int]


def read_list(name: str, data: Data) -> Lines:
    """The list of the split `name`. Raises DataError for what is no such list, with the line's number.

    Where none of the first files is there, that is said at once: to read millions of lines would take minutes.
    """
    key = f"data.{name}"
    file = expand(key, getattr(data, name))
    root = expand("data.root", data.root) if data.root else file.parent
    paths: list[str] = []
    labels: list[int] = []
    rows = _text(key, file).splitlines()
    for number, line in enumerate(rows, 1):
        if not line.strip():
            continue
        try:
            path, label = _parsed(line)
        except ValueError as error:
            raise DataError(f"{key} {file}: line {number}: {error}") from None
        paths.append(path)
        labels.append(label)
        if len(paths) == FIRST and not any(_may_be_there(root, path) for path in paths):
            raise missing_error(paths, len(rows), [root], is_whole=False)
    if not paths:
        raise DataError(f"{key} {file}: wanted `path label` a line, found no line")
    return Lines(key, file, root, paths, labels)


def _text(key: str, file: Path) -> str:
    """What the file holds: UTF-8, or UTF-16 where it begins with a byte order mark, as some editors of Windows write it."""
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{key} {file}: wanted a list file, `path label` a line, found no plain file")
        if about.st_size > LIST_BYTES:
            raise DataError(f"{key} {file}: wanted a list file of at most {LIST_BYTES} bytes, found {about.st_size}")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{key} {file}: wanted a list file, `path label` a line ({error.strerror})") from None
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    return content.decode("utf-8-sig", errors="surrogateescape")


def _parsed(line: str) -> tuple[str, int]:
    """Path and label. Raises ValueError with what is wrong."""
    path, _, label = line.strip().replace("\t", " ").rpartition(" ")
    path = path.strip()
    if "\0" in line:
        raise ValueError(f"wanted text, found a NUL in {_shown(line)}; save the list as UTF-8")
    if not path or not label.removeprefix("-").isdecimal():
        raise ValueError(f"wanted `path label` with an integer label last, found {_shown(line)}{_hint(line)}")
    if len(label) > len(str(LABEL_LIMIT)) + 1 or int(label) > LABEL_LIMIT:
        raise ValueError(f"wanted a label from 0 to {LABEL_LIMIT}, found {_shown(label)}")
    if leads_outside(path):
        raise ValueError(
            f"wanted a path under data.root, found {_shown(path)}; write the paths without `..` or a leading `/`, and set "
            "data.root to the folder they start from"
        )
    return path, int(label)


def _hint(line: str) -> str:
    first, _, rest = line.strip().partition(" ")
    if rest and first.isdecimal():
        return "; the label seems to stand first: write it behind the path"
    if line.count(",") == 1 and line.rpartition(",")[2].strip().isdecimal():
        return "; write a space in place of the comma"
    return ""


def _shown(text: str) -> str:
    return repr(text) if len(text) <= SHOWN else f"{text[:SHOWN]!r} and {len(text) - SHOWN} more characters"


def _may_be_there(root: Path, path: str) -> bool:
    """Whether a file is there under one of its names. True too where that depends on labels that are not read yet."""
    names = [path, path.replace("\\", "/")]
    place = places.parse(path)
    if place and not place.folder:
        return True
    return any(os.path.isfile(os.path.join(root, name)) for written in names for name in places.candidates(written))


def missing_error(missing: Sequence[str], total: int, roots: Iterable[Path], *, is_whole: bool) -> DataError:
    """The error for missing files; `is_whole` where all of the lists were looked through."""
    where = ", ".join(str(root) for root in dict.fromkeys(roots))
    shown = [path if len(path) <= SHOWN else f"{path[:SHOWN]}…" for path in missing[:NAMED_MISSING]]
    named = ", ".join(shown) + (", …" if len(missing) > NAMED_MISSING else "")
    least = "" if is_whole else "at least "
    return DataError(
        f"{least}{len(missing)} of {total} listed files are missing under {where}: {named}; check data.root"
    )


def with_slashes(lines: Lines) -> Lines:
    """The list with `/` for each `\\` of a path, as Windows writes it, unless a file under the root has that very name."""
    if not any("\\" in path for path in lines.paths):
        return lines
    paths = [
        path.replace("\\", "/") if "\\" in path and not os.path.isfile(os.path.join(lines.root, path)) else path
        for path in lines.paths
    ]
    return replace(lines, paths=paths)


def check_two_numbers(lines: Lines) -> None:
    """Raises DataError where one of the first files is there once a number is taken off its path: which is the label?"""
    root = lines.root
    for path, label in zip(lines.paths[:LOOKED_AT], lines.labels, strict=False):
        parts = re.fullmatch(r"(.+?)((?: +-?\d+)+)", path)
        if parts and not os.path.isfile(os.path.join(root, path)) and os.path.isfile(os.path.join(root, parts[1])):
            raise DataError(
                f"{lines.key} {lines.file}: wanted `path label` a line, found {parts[2].strip()} and {label} after "
                f"{parts[1]}; keep the label alone"
            )
