"""How the features in a staging folder are cut into chunks and shards.

The process that begins the folder decides, and writes the sizes to `plan.json`; the first that writes rows of an array decides
whether it is compressed, and writes its `zarr.json`. Processes that continue keep to both.
"""

import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.disk import durable, opening
from cache.errors import CacheCorrupt, CacheError, CacheInvalid
from cache.format import description, encode, layout
from cache.identity import Identity
from cache.staging.journal import ShardKey

NAME = "plan.json"
SHARD_LIMIT = 1024
"""The most chunks of a file, as in a manifest."""


def agreed(work: Path, identity: Identity, chunk: int, chunks_per_shard: int) -> tuple[int, int]:
    """Rows of a chunk, and chunks of a shard, in the staging folder `work`. The given ones are taken where it has no plan yet.

    Raises CacheCorrupt for a plan that coattail did not write.
    """
    sizes = {"rows_per_chunk": chunk, "chunks_per_shard": chunks_per_shard}
    durable.create(work / NAME, json.dumps(sizes).encode())
    try:
        plan = sizes | json.loads(opening.read(work, NAME, layout.DOCUMENT_LIMIT))
    except (CacheError, ValueError, TypeError, RecursionError):
        raise damaged(work, NAME) from None
    chunk, chunks_per_shard = plan["rows_per_chunk"], plan["chunks_per_shard"]
    if plan.keys() != sizes.keys() or any(type(value) is not int or value < 1 for value in plan.values()):
        raise damaged(work, NAME)
    raw = chunk * identity.width * layout.ITEM_BYTES[identity.dtype]
    if chunks_per_shard > SHARD_LIMIT or (raw > layout.CHUNK_LIMIT and chunk > 1):
        raise damaged(work, NAME)
    return chunk, chunks_per_shard


def damaged(work: Path, file: str) -> CacheCorrupt:
    """The error for a damaged file in a staging folder, which `cache rm` does not delete."""
    return CacheCorrupt(f"{work / file}: not as it was written; delete {work}, then run the same command again")


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of one view, which are written together to one file, as one chunk or several."""

    split: str
    view: str
    index: int
    start: int
    stop: int

    @property
    def key(self) -> ShardKey:
        """The name of the shard in the journal."""
        return self.split, self.view, self.index


def agreed_document(
    work: Path,
    identity: Identity,
    shard: Shard,
    chunk: int,
    chunks_per_shard: int,
    stored_BD: NDArray[np.floating[Any]],
) -> dict[str, Any]:
    """The content of the `zarr.json` of a shard's array; `chunk` rows of a view are a chunk.

    The first shard that is written, of rows `stored_BD`, decides whether the array is compressed with zstd, and `zarr.json` says
    so from then on. Raises CacheCorrupt for one that coattail did not write.
    """
    file = layout.array_file(shard.split, shard.view)
    path = work / layout.DATA / file
    rows, dtype = identity.splits[shard.split].rows, identity.dtype
    row, chunk = layout.row_shape(identity, shard.view), layout.array_chunk(identity, shard.view, chunk)
    if not path.is_file():
        durable.make_folder(path.parent)
        compress = encode.worth_compressing(stored_BD)
        document = description.array_document(rows, row, chunk, dtype, compress, chunks_per_shard)
        durable.create(path, description.document_bytes(document))
    try:
        return description.read_document(work / layout.DATA, file, rows, row, chunk, dtype, chunks_per_shard)
    except (CacheCorrupt, CacheInvalid):
        raise damaged(work, f"{layout.DATA}/{file}") from None


def of_view(identity: Identity, split: str, view: str, chunk: int, chunks_per_shard: int) -> Iterator[Shard]:
    """Every shard of a view, or of `maps`, in the order of its rows; `chunk` rows of a view are a chunk."""
    rows = identity.splits[split].rows
    rows_per_shard = layout.array_chunk(identity, view, chunk) * chunks_per_shard
    for index, start in enumerate(range(0, rows, rows_per_shard)):
        yield Shard(split, view, index, start, min(start + rows_per_shard, rows))


def owned(
    identity: Identity, split: str, view: str, chunk: int, chunks_per_shard: int, worker: int, workers: int
) -> Iterator[Shard]:
    """The shards of a view that one of several workers writes: every `workers`-th.

    The first shard of each view goes to another worker. So every worker gets shards where views have few.
    """
    turn = _arrays(identity).index((split, view))
    for shard in of_view(identity, split, view, chunk, chunks_per_shard):
        if (shard.index + turn) % workers == worker:
            yield shard


def first_missing(identity: Identity, chunk: int, chunks_per_shard: int, done: Container[ShardKey]) -> Shard | None:
    """The first shard of the cache that is not written yet; None where all are."""
    for split, view in _arrays(identity):
        for shard in of_view(identity, split, view, chunk, chunks_per_shard):
            if shard.key not in done:
                return shard
    return None


def _arrays(identity: Identity) -> list[tuple[str, str]]:
    """Split and name of every array of the cache."""
    return [(split, name) for split in identity.splits for name in layout.array_names(identity, split)]
