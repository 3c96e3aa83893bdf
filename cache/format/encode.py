"""Encoding the files of a cache's Zarr v3 arrays. `decode.py` reads them."""

from typing import Any

import google_crc32c
import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from cache.format import description, layout

WORTHWHILE = 1.3
"""The ratio by which zstd must shrink an array's first chunk to be used. Features with few zeros hardly shrink."""


def worth_compressing(chunk_BD: NDArray[np.floating[Any]]) -> bool:
    """Whether zstd shrinks a chunk, (B, D), enough to be worth the time of decompressing."""
    content = np.ascontiguousarray(chunk_BD).tobytes()
    return len(content) / max(1, len(Zstd(level=layout.ZSTD_LEVEL).encode(content))) > WORTHWHILE


def encode(document: dict[str, Any], features_BD: NDArray[np.floating[Any]]) -> tuple[bytes, list[bytes]]:
    """The bytes of a file of an array for these rows, (B, D) with maps flat, and the checksums of its chunks.

    `document` is the content of the array's `zarr.json`. The last chunk is filled up with NaN.
    """
    grid = description.Grid.of(document)
    chunks = [
        _chunk(document, grid, features_BD[start : start + grid.chunk])
        for start in range(0, len(features_BD), grid.chunk)
    ]
    checksums = [chunk[-layout.CRC_BYTES :] for chunk in chunks]
    return b"".join(chunks) + (_index(chunks, grid.shard) if grid.shard > 1 else b""), checksums


def _chunk(document: dict[str, Any], grid: description.Grid, features_BD: NDArray[np.floating[Any]]) -> bytes:
    """The bytes of one chunk, as zarr encodes them. They stay in memory, because only durable.py writes files."""
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
    """The index of a shard, as zarr's sharding codec writes it: offset and size of each chunk, all bits set for no chunk."""
    index_S2 = np.full((shard, 2), layout.NO_CHUNK, "<u8")
    sizes = [len(chunk) for chunk in chunks]
    index_S2[: len(chunks), 0] = np.cumsum([0, *sizes[:-1]])
    index_S2[: len(chunks), 1] = sizes
    content = index_S2.tobytes()
    return content + google_crc32c.value(content).to_bytes(layout.CRC_BYTES, "little")
