"""Local copies: the views of a split as one .npy file, (V, N, D), for splits that take more RAM than there is.

They lie in `<stores>/.local/<key>/`. They are made from a cache when they are needed, and can be deleted at any time.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache import catalog
from cache.disk import durable
from cache.disk.locks import locked
from cache.reader import FeatureCache, Features

BLOCK_BYTES = 64 << 20
"""How much of the features is held in RAM while a copy is made."""


def mapped(
    cache: FeatureCache, split: str, views: int, stores: Path, advance: Callable[[int], None] = lambda rows: None
) -> Features:
    """The first `views` views of a split, (V, N, D), memory-mapped and read-only. The copy is made where there is none.

    Checksums are compared as in `FeatureCache.features`. `advance` is called with the number of rows of each block. Where
    another process is making a copy of this cache, this one waits and uses that copy. Raises CacheCorrupt where the cache is
    damaged, and CacheStorage where the disk cannot hold the copy.
    """
    folder = stores / catalog.LOCAL / cache.key
    shape = (views, cache.manifest.identity.splits[split].rows, cache.manifest.identity.width)
    for count in (len(cache.views(split)), views):
        copy_VND = _whole(folder / _name(split, count), (count, *shape[1:]), cache.manifest.identity.dtype)
        if copy_VND is not None:
            return copy_VND[:views]
    path = folder / _name(split, views)
    durable.make_folder(folder.parent)
    with locked(folder.parent / f"{cache.key}.lock", lambda: None):
        # The process that had the lock before may have made the copy.
        if _whole(path, shape, cache.manifest.identity.dtype) is None:
            _copy(cache, split, path, shape, advance)
    return np.lib.format.open_memmap(path, mode="r")


def _name(split: str, views: int) -> str:
    return f"{split}-{views}-view{'s' * (views > 1)}.npy"


def _whole(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap | None:
    """The copy, (V, N, D), if it is there and has the shape, type and size that it should have."""
    try:
        copy_VND = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return None
    surplus = os.path.getsize(path) - copy_VND.nbytes - copy_VND.offset
    return copy_VND if (copy_VND.shape, copy_VND.dtype, surplus) == (shape, dtype, 0) else None


def _copy(cache: FeatureCache, split: str, path: Path, shape: tuple[int, ...], advance: Callable[[int], None]) -> None:
    dtype = np.dtype(cache.manifest.identity.dtype)
    _, rows, width = shape
    chunk = cache.manifest.rows_per_chunk
    step = chunk * max(1, BLOCK_BYTES // (chunk * width * dtype.itemsize))
    durable.make_folder(path.parent)
    with durable.writing(path) as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for view in cache.views(split)[: shape[0]]:
            for start in range(0, rows, step):
                block_BD = cache.slice(split, view, start, min(start + step, rows))
                file.write(block_BD.data)
                advance(len(block_BD))
