"""The Zarr v3 arrays of a cache: encoding a chunk, and accepting descriptions that are ours. `reading.py` reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from zarr.storage import MemoryStore

from cache import files, layout
from cache.errors import CacheCorrupt, CacheInvalid
from cache.files import AGAIN

WORTHWHILE = 1.3
"""zstd is used where it shrinks the first chunk by more than this; real-valued float16 features do not shrink."""


def worth_compressing(chunk_ND: np.ndarray) -> bool:
    """Whether zstd shrinks these bytes enough to be worth reading through."""
    content = np.ascontiguousarray(chunk_ND).tobytes()
    return len(content) / max(1, len(Zstd(level=layout.ZSTD_LEVEL).encode(content))) > WORTHWHILE


def encode(document: dict[str, Any], index: int, features_ND: np.ndarray) -> bytes:
    """The bytes that zarr stores for chunk `index` of the array described, (at most chunk, D) rows, NaN after the last."""
    # zarr encodes into memory; the disk is durable.py's.
    store: dict[str, Any] = {}
    memory = MemoryStore(store)
    rows, width = document["shape"]
    array = zarr.create_array(
        memory,
        shape=(rows, width),
        chunks=document["chunk_grid"]["configuration"]["chunk_shape"],
        dtype=document["data_type"],
        serializer=document["codecs"][0],
        filters=None,
        compressors=document["codecs"][1:],
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
    )
    start = index * array.chunks[0]
    array[start : start + len(features_ND)] = features_ND
    return store[f"c/{index}/0"].to_bytes()


def read_document(root: Path, file: str, rows: int, width: int, chunk: int, dtype: str) -> dict[str, Any]:
    """The array's description, `file` under `root`, which must be one of the two that we write."""
    wanted = [layout.array_document(rows, width, chunk, dtype, compress) for compress in (False, True)]
    content = files.read(root, file, 1 << 16)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CacheCorrupt(f"{root / file}: not the description of an array ({error}); {AGAIN}") from None
    for document in wanted:
        if found == document:
            return document  # ours, and not its equal of other types: 1.0 and true are 1
    raise CacheInvalid(f"{root / file}: {_first_difference(found, wanted)}; not an array of ours: {AGAIN}")


def _first_difference(found: Any, wanted: list[dict[str, Any]]) -> str:
    if not isinstance(found, dict):
        return "wanted a JSON object"
    for name in [*wanted[0], *found]:
        if found.get(name) not in [document.get(name) for document in wanted]:
            return f"{name}: wanted {json.dumps(wanted[0].get(name))[:120]}, found {json.dumps(found.get(name))[:120]}"
    return "wanted other fields"
