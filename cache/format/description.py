"""Zarr.json as we write it, and no other."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.disk import opening
from cache.disk.opening import AGAIN
from cache.errors import CacheCorrupt, CacheInvalid
from cache.format import layout
from cache.format.layout import ITEM_BYTES, SHARDING, ZSTD_LEVEL, chunks


def read_document(
    root: Path, file: str, rows: int, width: int, chunk: int, dtype: str, chunks_per_shard: int
) -> dict[str, Any]:
    """The array's description, `file` under `root`, which must be one of the two that we write."""
    wanted = [array_document(rows, width, chunk, dtype, compress, chunks_per_shard) for compress in (False, True)]
    content = opening.read(root, file, layout.DOCUMENT_LIMIT)
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


def group_document() -> dict[str, Any]:
    """zarr.json of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


def array_document(
    rows: int, width: int, chunk: int, dtype: str, compress: bool, chunks_per_shard: int = 1
) -> dict[str, Any]:
    """zarr.json of an array (N, D): whole rows a chunk, crc32c over what is on the disk, NaN where nothing is.

    With several chunks a shard, a file holds them one after another and then where each lies; an array of few chunks has
    smaller shards.
    """
    chunk = min(chunk, rows)
    shard = min(chunks_per_shard, chunks(rows, chunk))
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if compress:
        codecs.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    codecs.append({"name": "crc32c"})
    if shard > 1:
        codecs = [{"name": SHARDING, "configuration": _sharding(chunk, width, codecs)}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [rows, width],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk * shard, width]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": codecs,
        "attributes": {},
        "dimension_names": ["row", "feature"],
        "storage_transformers": [],
    }


def _sharding(chunk: int, width: int, codecs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "chunk_shape": [chunk, width],
        "codecs": codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }


@dataclass(frozen=True)
class Grid:
    """How an array's rows lie in its chunks, and those in its files."""

    rows: int
    width: int
    chunk: int
    """Rows of a chunk."""
    shard: int
    """Chunks of a file."""
    raw: int
    """Bytes of a chunk before compression."""
    codecs: list[dict[str, Any]]
    """Of a chunk."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Grid":
        """That of a description of ours."""
        (rows, width), codecs = document["shape"], document["codecs"]
        per_file = document["chunk_grid"]["configuration"]["chunk_shape"][0]
        chunk = per_file
        if codecs[0]["name"] == SHARDING:
            chunk, codecs = codecs[0]["configuration"]["chunk_shape"][0], codecs[0]["configuration"]["codecs"]
        raw = chunk * width * ITEM_BYTES[document["data_type"]]
        return cls(rows, width, chunk, per_file // chunk, raw, codecs)

    @property
    def rows_per_file(self) -> int:
        return self.chunk * self.shard

    @property
    def compressed(self) -> bool:
        return len(self.codecs) == 3

    def chunks_of(self, index: int) -> int:
        """Chunks that the file `index` holds."""
        return min(self.shard, chunks(self.rows, self.chunk) - index * self.shard)


def document_bytes(document: dict[str, Any]) -> bytes:
    """A description as it stands in its file."""
    return (json.dumps(document, indent=2) + "\n").encode()
