"""The names of a cache's files, and the sizes of its chunks and shards."""

import re
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache.identity import Identity, SplitIdentity

FEATURES = "features.zarr"
CLASSIFIER = "classifier.safetensors"
MANIFEST = "manifest.json"
DATA = "data"
"""The folder of a staging folder that holds the files of the cache that is being written."""
CHUNK_BYTES = 6 << 20
"""The most bytes of a chunk that has several rows, as it is written."""
MANY_CHUNKS = 10_000
"""A cache of more chunks than this has CHUNKS_PER_SHARD of them in a file, because many files are slow to copy."""
CHUNKS_PER_SHARD = 64
"""Such a shard has 384 MiB. A writer holds one in RAM, and writes it again if it was cut off."""
CHUNK_LIMIT = 64 << 20
"""The most bytes of a chunk of several rows that is read. It would be allocated whole."""
DOCUMENT_LIMIT = 1 << 16
"""The most bytes of a `zarr.json` that are read."""
ZSTD_LEVEL = 3
CRC_BYTES = 4
SHARDING = "sharding_indexed"
NO_CHUNK = 2**64 - 1
"""The offset and the size, in the index of a shard, of a chunk that is not there."""
ITEM_BYTES = {"float16": 2, "float32": 4}
KEY = re.compile(r"[0-9a-f]{64}")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_NUMBER = r"(0|[1-9]\d{0,11})"
_CHUNK = re.compile(rf"{FEATURES}/({_NAME})/(?:(clean|view-\d\d)/c/{_NUMBER}/0|(maps)/c/{_NUMBER}/0/0/0)")
MAPS = "maps"
"""The array of a split's feature maps, (N, D, h, w), where a cache has them: of the images of the view `clean`."""


def rows_per_chunk(width: int, dtype: str) -> int:
    """How many rows of D = `width` features a chunk has."""
    return max(1, CHUNK_BYTES // (width * ITEM_BYTES[dtype]))


def chunks_per_shard(identity: "Identity", chunk: int) -> int:
    """How many chunks a file has: 1, or CHUNKS_PER_SHARD where there would be too many files."""
    arrays = ((split.rows, array_chunk(identity, name, chunk)) for split, name in _arrays(identity))
    count = sum(chunks(rows, size) for rows, size in arrays)
    return 1 if count <= MANY_CHUNKS else CHUNKS_PER_SHARD


def view_names(views: int) -> list[str]:
    """The names of a split's views: `clean`, then `view-01`, `view-02` and so on."""
    return ["clean", *(f"view-{number:02d}" for number in range(1, views + 1))]


def array_names(identity: "Identity", split: str) -> list[str]:
    """The names of a split's arrays: its views, then `maps` where the cache has feature maps."""
    return view_names(identity.splits[split].views) + ([MAPS] if identity.maps else [])


def row_shape(identity: "Identity", name: str) -> tuple[int, ...]:
    """The shape of one row of an array: (D,), or (D, h, w) of maps."""
    return (identity.width, *(identity.maps or ())) if name == MAPS else (identity.width,)


def array_chunk(identity: "Identity", name: str, chunk: int) -> int:
    """How many rows a chunk of an array has, where one of a view has `chunk`: of maps so many fewer as a row is larger."""
    return max(1, chunk // (prod(row_shape(identity, name)) // identity.width))


def _arrays(identity: "Identity") -> Iterator[tuple["SplitIdentity", str]]:
    for name, split in identity.splits.items():
        for array in array_names(identity, name):
            yield split, array


def rows_file(split: str) -> str:
    return f"rows/{split}.parquet"


def array_file(split: str, view: str) -> str:
    return f"{FEATURES}/{split}/{view}/zarr.json"


def chunk_file(split: str, view: str, index: int) -> str:
    return f"{FEATURES}/{split}/{view}/c/{index}/0{'/0/0' if view == MAPS else ''}"


def chunk_of(file: str) -> tuple[str, str, int] | None:
    """The split, the view and the number of a file of chunks; None for any other file."""
    match = _CHUNK.fullmatch(file)
    return (match[1], match[2] or match[4], int(match[3] or match[5])) if match else None


def chunks(rows: int, chunk: int) -> int:
    """How many chunks of `chunk` rows, or files of so many, hold N = `rows` rows."""
    return -(-rows // chunk)


def number_of_files(identity: "Identity", chunk: int, shard: int) -> int:
    """How many files `files` lists. It is computed, so that a forged number of rows makes no long list.

    A file holds `shard` chunks; a chunk holds `chunk` rows of a view, or as many numbers of maps.
    """
    arrays = (chunks(split.rows, shard * array_chunk(identity, name, chunk)) + 1 for split, name in _arrays(identity))
    return 1 + 2 * len(identity.splits) + sum(arrays)


def files(identity: "Identity", chunk: int, shard: int) -> Iterator[str]:
    """Every file of a cache, except the manifest and the classifier; `chunk` and `shard` as in `number_of_files`."""
    yield f"{FEATURES}/zarr.json"
    for name, split in identity.splits.items():
        yield rows_file(name)
        yield f"{FEATURES}/{name}/zarr.json"
        for array in array_names(identity, name):
            yield array_file(name, array)
            count = chunks(split.rows, shard * array_chunk(identity, array, chunk))
            yield from (chunk_file(name, array, index) for index in range(count))
