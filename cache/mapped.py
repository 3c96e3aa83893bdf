"""Local copies: the views of a split as one .npy file, (V, N, D), for whoever has less RAM than the split takes.

They lie in `<stores>/.local/<key>/`, are made from a cache when they are needed, and can be deleted at any time.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cache import catalog
from cache.disk import durable
from cache.disk.locks import locked
from cache.reader import FeatureCache

BLOCK_BYTES = 64 << 20
"""What is held in RAM while a copy is made."""


def mapped(
    cache: FeatureCache, split: str, views: int, stores: Path, advance: Callable[[int], None] = lambda rows: None
) -> np.ndarray:
    """The first `views` views of a split, (V, N, D), read-only and memory-mapped; the copy is made where there is none.

    What is copied is proved as by `FeatureCache.features`; `advance` is called with the rows of each block. Where another
    process makes a copy of this cache, this one waits and uses that. Raises CacheCorrupt where the cache is damaged,
    CacheStorage where the disk does not take the copy.
    """
    folder = stores / catalog.LOCAL / cache.key
    shape = (views, cache.manifest.identity.splits[split].rows, cache.manifest.identity.width)
    for count in (len(cache.views(split)), views):
        found = _whole(folder / _name(split, count), (count, *shape[1:]), cache.manifest.identity.dtype)
        if found is not None:
            return found[:views]
    path = folder / _name(split, views)
    durable.make_folder(folder.parent)
    with locked(folder.parent / f"{cache.key}.lock", lambda: None):
        # Whoever waited for the lock may find the copy made.
        if _whole(path, shape, cache.manifest.identity.dtype) is None:
            _copy(cache, split, path, shape, advance)
    return np.lib.format.open_memmap(path, mode="r")


def _name(split: str, views: int) -> str:
    return f"{split}-{views}-view{'s' * (views > 1)}.npy"


def _whole(path: Path, shape: tuple[int, ...], dtype: str) -> np.memmap | None:
    """The copy, if it is there and has the size that it should have."""
    try:
        found = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError):
        return None
    size = os.path.getsize(path) - found.nbytes - found.offset
    return found if (found.shape, found.dtype, size) == (shape, dtype, 0) else None


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
