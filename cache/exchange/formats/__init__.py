"""Arrays that lie in a user's files, by name. Opening one reads its description only, and nothing in it can run code."""

import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.shards import joined
from cache.exchange.source import WHOLE_BYTES, Source, SourceArray

WHOLE = re.compile("-?[1-9][0-9]{0,17}|0")
"""A whole number as a line of text; 007 is a name."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")
ARRAYS, NAME_LENGTH = 10_000, 200
"""Arrays that a file may hold, and characters that the name of one may have: error lines show names."""
FORMATS = ".npy, .npz, .safetensors, .parquet, or a folder of them"


def open_source(path: Path, prefix: str = "") -> Source:
    """The arrays of a file or folder, `prefix` before their names.

    Raises CacheInvalid for a file that is damaged, that is of another kind, or that holds Python objects.
    """
    if path.is_dir():
        return _folder(path, prefix)
    check_regular(path)
    if path.suffix in PICKLES:
        raise CacheInvalid(
            f"{path}: a pickle, which can run code when it is read; save the arrays as .npz or .safetensors instead"
        )
    if path.suffix not in READERS:
        raise CacheInvalid(f"{path}: wanted {FORMATS}, found {path.suffix or 'no suffix'}")
    source = READERS[path.suffix](path, prefix)
    longest = max((len(array.local) for array in source.arrays), default=0)
    if longest > NAME_LENGTH or len(source.arrays) > ARRAYS:
        raise CacheInvalid(
            f"{path}: {len(source.arrays)} arrays, the longest name of {longest} characters; wanted at most {ARRAYS} arrays and "
            f"{NAME_LENGTH} characters"
        )
    return source


def check_regular(path: Path) -> None:
    """Raises CacheInvalid for a device or a pipe, from which one could read for ever, OSError where nothing is there."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise CacheInvalid(f"{path}: wanted a file, found a device or a pipe; save the arrays to a file first")


def _npy(path: Path, prefix: str) -> Source:
    from cache.exchange.formats.numpy_files import open_npy

    return Source((open_npy(path, prefix),))


def _npz(path: Path, prefix: str) -> Source:
    from cache.exchange.formats.numpy_files import open_npz

    return Source(tuple(open_npz(path, prefix)))


def _safetensors(path: Path, prefix: str) -> Source:
    from cache.exchange.formats.safetensors_files import open_safetensors

    return open_safetensors(path, prefix)


def _parquet(path: Path, prefix: str) -> Source:
    from cache.exchange.formats.parquet_files import open_parquet

    return open_parquet(path, prefix)


def _lines(path: Path, prefix: str) -> Source:
    """A line a row: numbers where all of them are whole numbers, else text."""
    if path.stat().st_size > WHOLE_BYTES // 16:
        raise CacheInvalid(f"{path}: more than {WHOLE_BYTES >> 34} GiB of text; use Parquet")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise CacheInvalid(f"{path}: wanted UTF-8 text, a line a row") from None
    lines = lines if lines[-1] else lines[:-1]
    numbers = bool(lines) and all(WHOLE.fullmatch(line) for line in lines)
    dtype = "int64" if numbers else f"<U{max(1, *map(len, lines), 1)}"
    name = prefix or path.stem
    # Made only when it is read: every line of text takes the room of the longest.
    return Source((SourceArray(name, str(path), (len(lines),), dtype, lambda: iter([np.array(lines, dtype)])),))


def _folder(path: Path, prefix: str) -> Source:
    """Every array of every file below the folder, by its path; hidden files and files of another kind are passed over.

    Numbered files are one array, in the order of their numbers.
    """
    arrays: list[SourceArray] = []
    metadata: dict[str, str] = {}
    passed_over: list[str] = []
    notes: list[str] = []
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if file.suffix not in READERS or any(part.startswith(".") for part in inner.parts) or not file.is_file():
            continue
        name = inner.with_suffix("").as_posix()
        source = open_source(file, f"{prefix}/{name}" if prefix else name)
        arrays += source.arrays
        metadata |= source.metadata
        passed_over += source.passed_over
        notes += source.notes
    if not arrays:
        raise CacheInvalid(f"{path}: no arrays there; wanted {FORMATS}")
    return Source(joined(arrays), metadata, tuple(passed_over[:4]), tuple(notes[:1]))


READERS: dict[str, Callable[[Path, str], Source]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".txt": _lines,
}
