"""Arrays that lie in a user's files, by name. Opening one reads its description only, and nothing in it can run code."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache.errors import CacheInvalid

BLOCK_BYTES = 16 << 20
"""What is read at a time."""
WHOLE_BYTES = 4 << 30
"""Labels, ids and class names are read whole; larger ones are refused."""
PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".joblib")
FORMATS = ".npy, .npz, .safetensors, .parquet, or a folder of them"


@dataclass(frozen=True)
class SourceArray:
    """An array of a file: rows along its first axis, read in order, a block at a time."""

    name: str
    """Its path below what the user named, without the file's suffix: `train/features`."""
    where: str
    """For people: `data/train.npz[features]`."""
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name of the type that `blocks` yields, in the machine's byte order."""
    blocks: Callable[[], Iterator[np.ndarray]]
    local: str = ""
    """Its name within its file; empty where the file is the array."""
    missing_N: np.ndarray | None = None
    """Rows that hold nothing, where the format can leave some out."""

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> np.ndarray:
        """All of it, which must not be large."""
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if size > WHOLE_BYTES:
            raise CacheInvalid(f"{self.where}: {size >> 30} GiB, at most {WHOLE_BYTES >> 30} wanted; use Parquet")
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty(self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.local or self.name} {self.shape} {self.dtype}"


@dataclass(frozen=True)
class Source:
    """What one file, or one folder, holds; `metadata` is text that the file carries beside its arrays."""

    arrays: tuple[SourceArray, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)


def open_source(path: Path, prefix: str = "") -> Source:
    """The arrays of a file or folder, `prefix` before their names.

    Raises CacheInvalid for a file that is damaged, that is of another kind, or that holds Python objects.
    """
    if path.is_dir():
        return _folder(path, prefix)
    if path.suffix in PICKLES:
        raise CacheInvalid(
            f"{path}: a pickle, which can run code when it is read; save the arrays as .npz or .safetensors instead"
        )
    if path.suffix not in READERS:
        raise CacheInvalid(f"{path}: wanted {FORMATS}, found {path.suffix or 'no suffix'}")
    return READERS[path.suffix](path, prefix)


def step(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Rows that are read at a time."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


def native(block: np.ndarray) -> np.ndarray:
    """The block in rows and in the machine's byte order, its bits as they were."""
    return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))


def _npy(path: Path, prefix: str) -> Source:
    from cache.source_numpy import open_npy

    return Source((open_npy(path, prefix),))


def _npz(path: Path, prefix: str) -> Source:
    from cache.source_numpy import open_npz

    return Source(tuple(open_npz(path, prefix)))


def _safetensors(path: Path, prefix: str) -> Source:
    from cache.source_safetensors import open_safetensors

    return open_safetensors(path, prefix)


def _parquet(path: Path, prefix: str) -> Source:
    from cache.source_parquet import open_parquet

    return open_parquet(path, prefix)


def _lines(path: Path, prefix: str) -> Source:
    """A line a row: numbers where all of them are whole numbers, else text."""
    if path.stat().st_size > WHOLE_BYTES // 16:
        raise CacheInvalid(f"{path}: more than {WHOLE_BYTES >> 34} GiB of text; use Parquet")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise CacheInvalid(f"{path}: wanted UTF-8 text, a line a row") from None
    values = np.array(lines)
    if lines and all(line.lstrip("-").isdecimal() and len(line) < 19 for line in lines):
        values = values.astype(np.int64)
    name = prefix or path.stem
    return Source((SourceArray(name, str(path), values.shape, str(values.dtype), lambda: iter([values])),))


def _folder(path: Path, prefix: str) -> Source:
    """Every array of every file below the folder, by its path; hidden files and files of another kind are passed over."""
    arrays: list[SourceArray] = []
    metadata: dict[str, str] = {}
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if file.suffix not in READERS or any(part.startswith(".") for part in inner.parts) or not file.is_file():
            continue
        name = inner.with_suffix("").as_posix()
        source = open_source(file, f"{prefix}/{name}" if prefix else name)
        arrays += source.arrays
        metadata |= source.metadata
    if not arrays:
        raise CacheInvalid(f"{path}: no arrays there; wanted {FORMATS}")
    return Source(tuple(arrays), metadata)


READERS: dict[str, Callable[[Path, str], Source]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
    ".txt": _lines,
}
