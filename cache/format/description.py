"""The files `zarr.json`, which describe the arrays and groups of a cache.

A description that is read must equal, field by field, one that coattail writes. So no other type, codec or extension of Zarr
is ever used.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from cache.disk import opening
from cache.disk.opening import AGAIN, FOREIGN
from cache.errors import CacheCorrupt, CacheInvalid
from cache.format import layout
from cache.format.layout import ITEM_BYTES, SHARDING, ZSTD_LEVEL, chunks


def read_document(
    root: Path, file: str, rows: int, row: tuple[int, ...], chunk: int, dtype: str, chunks_per_shard: int
) -> dict[str, Any]:
    """The description of an array, `file` under `root`. It must be one of the two that coattail writes, plain or with zstd.

    Raises CacheCorrupt for a file that is no JSON, and CacheInvalid for another description.
    """
    wanted = [array_document(rows, row, chunk, dtype, compress, chunks_per_shard) for compress in (False, True)]
    content = opening.read(root, file, layout.DOCUMENT_LIMIT)
    try:
        stored = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CacheCorrupt(f"{root / file}: not the description of an array ({error}); {AGAIN}") from None
    for document in wanted:
        if stored == document:
            return document  # not `stored`, which may have 1.0 or true in the place of 1
    raise CacheInvalid(f"{root / file}: {_first_difference(stored, wanted)}; {FOREIGN}: {AGAIN}")


def _first_difference(stored: Any, wanted: list[dict[str, Any]]) -> str:
    """The first field of a description that none of the wanted ones has, as text."""
    if not isinstance(stored, dict):
        return "wanted a JSON object"
    for name in [*wanted[0], *stored]:
        if stored.get(name) not in [document.get(name) for document in wanted]:
            return f"{name}: wanted {json.dumps(wanted[0].get(name))[:120]}, found {json.dumps(stored.get(name))[:120]}"
    return "wanted other fields"


def group_document() -> dict[str, Any]:
    """The content of a group's `zarr.json`."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


def array_document(
    rows: int, row: tuple[int, ...], chunk: int, dtype: str, compress: bool, chunks_per_shard: int = 1
) -> dict[str, Any]:
    """The content of the `zarr.json` of an array of rows of shape `row`: (N, D), or of maps (N, D, h, w).

    A chunk holds whole rows, and ends with the crc32c of its bytes. A missing chunk reads as NaN. A shard of several chunks
    holds one after another, and at its end where each lies. An array of few chunks has shards of as many.
    """
    chunk = min(chunk, rows)
    shard = min(chunks_per_shard, chunks(rows, chunk))
    codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
    if compress:
        codecs.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    codecs.append({"name": "crc32c"})
    if shard > 1:
        codecs = [{"name": SHARDING, "configuration": _sharding(chunk, row, codecs)}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [rows, *row],
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk * shard, *row]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "NaN",
        "codecs": codecs,
        "attributes": {},
        "dimension_names": ["row", "feature", "height", "width"][: 1 + len(row)],
        "storage_transformers": [],
    }


def _sharding(chunk: int, row: tuple[int, ...], codecs: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "chunk_shape": [chunk, *row],
        "codecs": codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }


@dataclass(frozen=True)
class Grid:
    """How the rows of an array are divided into chunks, and the chunks into files."""

    rows: int
    width: int
    """How many numbers a row has."""
    chunk: int
    """How many rows a chunk has."""
    shard: int
    """How many chunks a file has."""
    raw: int
    """How many bytes a chunk has before compression."""
    codecs: list[dict[str, Any]]
    """The codecs of a chunk."""

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Grid":
        """The grid of an array, by the content of its `zarr.json`."""
        (rows, *row), codecs = document["shape"], document["codecs"]
        per_file = document["chunk_grid"]["configuration"]["chunk_shape"][0]
        chunk = per_file
        if codecs[0]["name"] == SHARDING:
            chunk, codecs = codecs[0]["configuration"]["chunk_shape"][0], codecs[0]["configuration"]["codecs"]
        width = prod(row)
        raw = chunk * width * ITEM_BYTES[document["data_type"]]
        return cls(rows, width, chunk, per_file // chunk, raw, codecs)

    @property
    def rows_per_file(self) -> int:
        return self.chunk * self.shard

    @property
    def compressed(self) -> bool:
        return len(self.codecs) == 3

    def chunks_of(self, index: int) -> int:
        """How many chunks the file of number `index` holds."""
        return min(self.shard, chunks(self.rows, self.chunk) - index * self.shard)


def document_bytes(document: dict[str, Any]) -> bytes:
    """The bytes of a `zarr.json` of this content."""
    return (json.dumps(document, indent=2) + "\n").encode()
