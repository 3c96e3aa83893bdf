"""An array in a user's file, a block at a time."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from cache.errors import CacheInvalid

BLOCK_BYTES = 16 << 20
"""What is read at a time."""
WHOLE_BYTES = 4 << 30
"""Labels, ids and class names are read whole; larger ones are refused."""


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
    classes: tuple[str, ...] = ()
    """Of labels: the names of the classes 0, 1, …, where the file names them for this array; else empty."""

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> np.ndarray:
        """The whole array at once. Raises CacheInvalid for one that is larger than WHOLE_BYTES."""
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
    passed_over: tuple[str, ...] = ()
    """Columns that hold images or the paths of images, for people."""
    notes: tuple[str, ...] = ()
    """What a user should know of the file."""


def step(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Rows that are read at a time."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


def native(block: np.ndarray) -> np.ndarray:
    """The block in rows and in the machine's byte order, its bits as they were."""
    return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
