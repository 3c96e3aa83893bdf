"""How the features of a staging folder are cut: whoever began it decided, and whoever goes on keeps to it."""

import json
from dataclasses import dataclass
from pathlib import Path

from cache.disk import durable, opening
from cache.errors import CacheCorrupt, CacheError
from cache.format import layout
from cache.identity import Identity

NAME = "plan.json"
SHARD_LIMIT = 1024
"""Chunks of a file, as in a manifest."""


def agreed(work: Path, identity: Identity, chunk: int, chunks_per_shard: int) -> tuple[int, int]:
    """Rows of a chunk and chunks of a shard in the folder `work`; those given where it has no plan yet.

    Raises CacheCorrupt for a plan that no writer has made.
    """
    sizes = {"rows_per_chunk": chunk, "chunks_per_shard": chunks_per_shard}
    durable.create(work / NAME, json.dumps(sizes).encode())
    try:
        found = sizes | json.loads(opening.read(work, NAME, layout.DOCUMENT_LIMIT))
    except (CacheError, ValueError, TypeError, RecursionError):
        raise damaged(work, NAME) from None
    chunk, chunks_per_shard = found["rows_per_chunk"], found["chunks_per_shard"]
    if found.keys() != sizes.keys() or any(type(value) is not int or value < 1 for value in found.values()):
        raise damaged(work, NAME)
    raw = chunk * identity.width * layout.ITEM_BYTES[identity.dtype]
    if chunks_per_shard > SHARD_LIMIT or (raw > layout.CHUNK_LIMIT and chunk > 1):
        raise damaged(work, NAME)
    return chunk, chunks_per_shard


def damaged(work: Path, file: str) -> CacheCorrupt:
    """The error for a description in a staging folder; `cache rm` takes published caches alone."""
    return CacheCorrupt(f"{work / file}: not as it was written; delete {work}, then run the same command again")


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of one view: a file of one chunk, or of several in large caches; the unit of writing."""

    split: str
    view: str
    index: int
    start: int
    stop: int
