"""Which files a cache has, and the Zarr v3 descriptions among them. Written and compared as whole documents.

A description that is not, field by field, one of the two below is refused before zarr sees it: that is the allow-list of
types, codecs and extensions.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.identity import Identity

FEATURES = "features.zarr"
CLASSIFIER = "classifier.safetensors"
MANIFEST = "manifest.json"
DATA = "data"
"""In a staging folder, where the files of the cache to be lie."""
CHUNK_BYTES = 6 << 20
"""A chunk is at most this large, and between 4 and 8 MiB where the split is."""
MANY_CHUNKS = 10_000
"""A cache of more chunks than this stores CHUNKS_PER_SHARD of them a file."""
CHUNKS_PER_SHARD = 64
"""384 MiB: what a writer holds, and writes again where it was cut off."""
CHUNK_LIMIT = 64 << 20
"""A chunk of several rows larger than this is refused: it would be allocated whole."""
DOCUMENT_LIMIT = 1 << 16
"""Bytes of a description that are read at most."""
ZSTD_LEVEL = 3
CRC_BYTES = 4
SHARDING = "sharding_indexed"
NO_CHUNK = 2**64 - 1
"""Stands in a shard's index for a chunk that is not there."""
ITEM_BYTES = {"float16": 2, "float32": 4}
KEY = re.compile(r"[0-9a-f]{64}")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_CHUNK = re.compile(rf"{FEATURES}/({_NAME})/(clean|view-\d\d)/c/(0|[1-9]\d{{0,11}})/0")


def rows_per_chunk(width: int, dtype: str) -> int:
    """Rows of a chunk that holds all D channels."""
    return max(1, CHUNK_BYTES // (width * ITEM_BYTES[dtype]))


def chunks_per_shard(identity: "Identity", chunk: int) -> int:
    """Chunks of a file: 1, or CHUNKS_PER_SHARD where there would be too many files."""
    found = sum((split.views + 1) * chunks(split.rows, chunk) for split in identity.splits.values())
    return 1 if found <= MANY_CHUNKS else CHUNKS_PER_SHARD


def view_names(views: int) -> list[str]:
    """`clean` and `view-01`, `view-02`, …"""
    return ["clean", *(f"view-{number:02d}" for number in range(1, views + 1))]


def rows_file(split: str) -> str:
    return f"rows/{split}.parquet"


def array_file(split: str, view: str) -> str:
    return f"{FEATURES}/{split}/{view}/zarr.json"


def chunk_file(split: str, view: str, index: int) -> str:
    return f"{FEATURES}/{split}/{view}/c/{index}/0"


def chunk_of(file: str) -> tuple[str, str, int] | None:
    """Split, view and index of a file of chunks; None for any other file."""
    match = _CHUNK.fullmatch(file)
    return (match[1], match[2], int(match[3])) if match else None


def chunks(rows: int, chunk: int) -> int:
    """How many chunks, or files, of `chunk` rows N rows make."""
    return -(-rows // chunk)


def number_of_files(identity: "Identity", rows_per_file: int) -> int:
    """Length of the inventory without a classifier, by arithmetic alone."""
    arrays = ((split.views + 1) * (chunks(split.rows, rows_per_file) + 1) for split in identity.splits.values())
    return 1 + 2 * len(identity.splits) + sum(arrays)


def files(identity: "Identity", rows_per_file: int) -> Iterator[str]:
    """Every file of the cache but the manifest and the classifier."""
    yield f"{FEATURES}/zarr.json"
    for name, split in identity.splits.items():
        yield rows_file(name)
        yield f"{FEATURES}/{name}/zarr.json"
        for view in view_names(split.views):
            yield array_file(name, view)
            yield from (chunk_file(name, view, index) for index in range(chunks(split.rows, rows_per_file)))
