"""The Zarr v3 arrays of a cache: encoding their files, and accepting descriptions that are ours. `reading.py` reads them."""

from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from zarr.storage import MemoryStore

from cache.format import description, layout

WORTHWHILE = 1.3
"""zstd is used where it shrinks the first chunk by more than this; real-valued float16 features do not shrink."""


def worth_compressing(chunk_ND: np.ndarray) -> bool:
    """Whether zstd shrinks these bytes enough to be worth reading through."""
    content = np.ascontiguousarray(chunk_ND).tobytes()
    return len(content) / max(1, len(Zstd(level=layout.ZSTD_LEVEL).encode(content))) > WORTHWHILE


def encode(document: dict[str, Any], index: int, features_BD: np.ndarray) -> tuple[bytes, list[bytes]]:
    """File `index` of the array described, and the checksums of its chunks; NaN after the last of at most a file's rows."""
    grid = description.Grid.of(document)
    chunks = [
        _chunk(document, grid, features_BD[start : start + grid.chunk])
        for start in range(0, len(features_BD), grid.chunk)
    ]
    checksums = [chunk[-layout.CRC_BYTES :] for chunk in chunks]
    return b"".join(chunks) + (_index(chunks, grid.shard) if grid.shard > 1 else b""), checksums


def _chunk(document: dict[str, Any], grid: description.Grid, features_BD: np.ndarray) -> bytes:
    """The bytes that zarr stores for these rows. It encodes into memory; the disk is durable.py's."""
    store: dict[str, Any] = {}
    array = zarr.create_array(
        MemoryStore(store),
        shape=(grid.chunk, grid.width),
        chunks=(grid.chunk, grid.width),
        dtype=document["data_type"],
        serializer=grid.codecs[0],
        filters=None,
        compressors=grid.codecs[1:],
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
    )
    array[: len(features_BD)] = features_BD
    return store["c/0/0"].to_bytes()


def _index(chunks: list[bytes], shard: int) -> bytes:
    """Where each chunk lies in its shard, offset and bytes, as zarr's sharding codec writes it; all bits set for none."""
    index_S2 = np.full((shard, 2), layout.NO_CHUNK, "<u8")
    sizes = [len(chunk) for chunk in chunks]
    index_S2[: len(chunks), 0] = np.cumsum([0, *sizes[:-1]])
    index_S2[: len(chunks), 1] = sizes
    content = index_S2.tobytes()
    return content + google_crc32c.value(content).to_bytes(layout.CRC_BYTES, "little")
