"""Opening a user's files as named arrays, a module for each format.

Opening reads only what describes the arrays, not their values. Nothing in a file can run code.
"""

import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.shards import joined
from cache.exchange.source import WHOLE_BYTES, Source, SourceArray

WHOLE = re.compile("-?[1-9][0-9]{0,17}|0")
"""A line of text that is a whole number. A line such as 007 is a name."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")
"""Suffixes of files that can run code when they are read."""
ARRAYS, NAME_LENGTH = 10_000, 200
"""The most arrays of a file, and the most characters of the name of one. Error lines show such names."""
FORMATS = ".npy, .npz, .safetensors, .parquet, or a folder of them"


def open_source(path: Path, prefix: str = "") -> Source:
    """The arrays of a file or folder. Their names begin with `prefix`.

    Raises CacheInvalid for a file that is damaged, of an unknown format, or that holds Python objects.
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
            f"{path}: wanted at most {ARRAYS} arrays with names of at most {NAME_LENGTH} characters, found {len(source.arrays)} "
            f"arrays and a name of {longest} characters"
        )
    return source


def check_regular(path: Path) -> None:
    """Raise CacheInvalid for a device or a pipe, which may have no end, and OSError where there is no file."""
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
    """The lines of a text file, one a row: numbers if all lines are whole numbers, else text."""
    if path.stat().st_size > WHOLE_BYTES // 16:
        raise CacheInvalid(f"{path}: wanted at most {WHOLE_BYTES >> 24} MiB of text, found more; use Parquet")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise CacheInvalid(f"{path}: wanted UTF-8 text, a line a row") from None
    lines = lines if lines[-1] else lines[:-1]
    numbers = bool(lines) and all(WHOLE.fullmatch(line) for line in lines)
    dtype = "int64" if numbers else f"<U{max(1, *map(len, lines), 1)}"
    name = prefix or path.stem
    # The array is made only when it is read, because each line takes as much memory as the longest.
    return Source((SourceArray(name, str(path), (len(lines),), dtype, lambda: iter([np.array(lines, dtype)])),))


def _folder(path: Path, prefix: str) -> Source:
    """The arrays of every file below a folder, named by their paths. Hidden files and other formats are passed over.

    The arrays of numbered files are joined, in the order of the numbers.
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
