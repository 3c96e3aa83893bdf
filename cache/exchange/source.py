"""An array in a user's file, which is read a block of rows at a time."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid

BLOCK_BYTES = 16 << 20
"""About how many bytes are read at a time."""
WHOLE_BYTES = 4 << 30
"""The most bytes of an array that is read whole, as labels, ids and class names are."""


@dataclass(frozen=True)
class SourceArray:
    """An array of a file. Its rows lie along the first axis, and are read in order, a block at a time."""

    name: str
    """Its path below the file or folder that the user named, without the file's suffix, such as `train/features`."""
    where: str
    """How messages call it, such as `data/train.npz[features]`."""
    shape: tuple[int, ...]
    dtype: str
    """NumPy's name of the type that `blocks` yields. The bytes are in the order of this machine."""
    blocks: Callable[[], Iterator[NDArray[Any]]]
    local: str = ""
    """Its name within its file; empty where the file is a single array."""
    missing_N: NDArray[np.bool_] | None = None
    """The rows that hold nothing, where the format allows that."""
    classes: tuple[str, ...] = ()
    """Of labels: the names of the classes 0, 1, …, where the file gives them for this array; else empty."""

    @property
    def rows(self) -> int:
        return self.shape[0] if self.shape else 0

    def read(self) -> NDArray[Any]:
        """The whole array at once. Raises CacheInvalid for one that is larger than WHOLE_BYTES."""
        size = math.prod(self.shape) * np.dtype(self.dtype).itemsize
        if size > WHOLE_BYTES:
            raise CacheInvalid(f"{self.where}: wanted at most {WHOLE_BYTES >> 30} GiB, found {size >> 30}; use Parquet")
        blocks = list(self.blocks())
        return np.concatenate(blocks) if blocks else np.empty(self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.local or self.name} {self.shape} {self.dtype}"


@dataclass(frozen=True)
class Source:
    """The arrays of one file, or of one folder. `metadata` is text that the file holds beside its arrays."""

    arrays: tuple[SourceArray, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    passed_over: tuple[str, ...] = ()
    """Columns that hold images, or paths of images, as messages call them."""
    notes: tuple[str, ...] = ()
    """Lines on the file that the user should read."""


def step(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """How many rows of an array are read at a time."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape[1:]) * dtype.itemsize))


def native(block: NDArray[Any]) -> NDArray[Any]:
    """The block with its rows one after another and in this machine's byte order. The values do not change."""
    return np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
