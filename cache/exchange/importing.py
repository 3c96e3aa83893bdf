"""Import: a user's arrays become a cache, whose key is the digest of their content.

The arrays are read twice. The first pass checks every feature and computes the key. The second writes the cache. Equal rows
have an equal key, whatever file, byte order or memory layout they came from.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cache import catalog
from cache.errors import CacheInvalid, CacheStorage
from cache.exchange.contents import Dataset, Table
from cache.exchange.source import SourceArray
from cache.format import admission, decode, layout
from cache.identity import Identity, SplitIdentity, samples_digest
from cache.manifest import Provenance
from cache.writer import CacheWriter

Block = NDArray[np.floating[Any]]
"""Some rows of features, (B, D)."""


@dataclass(frozen=True)
class Digested:
    """A data set of which every value was read, with its identity.

    `sums` has, for each split and view, a checksum of each block that was read. They show whether a file changed since.
    """

    dataset: Dataset
    identity: Identity
    sums: Mapping[tuple[str, str], list[int]]


def digest(dataset: Dataset, advance: Callable[[int], None] = lambda rows: None) -> Digested:
    """Read every feature, and compute the identity of the data set.

    The content digest of a split is the sha256 of its features in the storage type, one view after another, and then of its
    labels as int64; all little-endian, row after row. The digest of the weights is the sha256 of the classifier's tensors, or
    of no bytes. Raises CacheInvalid, which names the row, for a feature that is not finite or does not fit the storage type.
    """
    splits: dict[str, SplitIdentity] = {}
    sums: dict[tuple[str, str], list[int]] = {}
    for split, table in dataset.splits.items():
        content = hashlib.sha256()
        for view in sorted(table.views):
            sums[split, view] = []
            for stored_BD in _stored(dataset, table, view):
                block = _bytes(stored_BD)
                content.update(block.data)
                sums[split, view].append(decode.crc32c(block))
                advance(len(stored_BD))
        content.update(table.labels_N.astype("<i8").tobytes())
        splits[split] = SplitIdentity(
            rows=len(table.labels_N),
            samples=samples_digest(table.ids),
            content=content.hexdigest(),
            views=len(table.views) - 1,
        )
    weights = hashlib.sha256()
    for tensor in (dataset.classifier or {}).values():
        weights.update(_bytes(tensor).data)
    identity = Identity(
        kind="imported",
        classes=dataset.classes,
        splits=splits,
        weights=weights.hexdigest(),
        backbone="imported",
        layer="features",
        width=dataset.width,
        transform={},
        view_transform={},
        views_seed=0,
        dtype=dataset.dtype,
    )
    return Digested(dataset, identity, sums)


def write(
    stores: Path,
    digested: Digested,
    provenance: Provenance,
    advance: Callable[[int], None] = lambda rows: None,
    note: Callable[[str], None] = lambda text: None,
) -> Path:
    """The cache's folder. The cache is written unless it is there; an interrupted import is continued.

    A cache that is there is compared with its manifest by `catalog.prove`, whose line goes to `note`. Raises CacheCorrupt
    where that cache is damaged, and CacheStorage where the files changed after they were digested, or the disk is full.
    """
    dataset, identity = digested.dataset, digested.identity
    published = catalog.published(stores, identity.key())
    if published is not None:
        if unproved := catalog.prove(published):
            note(unproved)
        return published
    with CacheWriter(stores, identity, provenance, at_once=True) as writer:
        for split, table in dataset.splits.items():
            writer.write_rows(split, _rows(table, dataset.classes))
            for view in table.views:
                _write_view(writer, digested, split, view, advance)
        if dataset.classifier is not None:
            writer.write_classifier(dataset.classifier)
        return writer.publish()


def _write_view(writer: CacheWriter, digested: Digested, split: str, view: str, advance: Callable[[int], None]) -> None:
    """Write the shards of a view that are not written yet."""
    pending = set(writer.pending(split, view))
    if not pending:
        advance(digested.identity.splits[split].rows)
        return
    blocks = _unchanged(digested, split, view)
    for shard, features_BD in zip(writer.shards(split, view), _even(blocks, writer.rows_per_shard), strict=True):
        if shard in pending:
            writer.write(shard, features_BD)
        advance(len(features_BD))


def _unchanged(digested: Digested, split: str, view: str) -> Iterator[Block]:
    """The blocks of a view once more; CacheStorage where one is not what was digested."""
    table, sums = digested.dataset.splits[split], digested.sums[split, view]
    for stored_BD, wanted in zip(_stored(digested.dataset, table, view), sums, strict=True):
        if decode.crc32c(_bytes(stored_BD)) != wanted:
            raise CacheStorage(
                f"{table.views[view].where}: changed while it was read; when it is whole, run the same command again"
            )
        yield stored_BD


def _stored(dataset: Dataset, table: Table, view: str) -> Iterator[Block]:
    """The rows of one view in the storage type, (B, D) at a time. Raises CacheInvalid for a feature that does not fit it."""
    array = table.views[view]
    size = layout.rows_per_chunk(dataset.width, dataset.dtype)
    start = 0
    for block_BD in _even(_chosen(array, table.rows_N), size):
        stored_BD, bad = admission.storable(block_BD, dataset.dtype, array.where)
        if bad is not None:
            row = start + bad
            source_row = row if table.rows_N is None else int(table.rows_N[row])
            raise CacheInvalid(
                f"{array.where}: row {source_row} (id {table.ids[row]!r}): {_reason(block_BD[bad], dataset)}"
            )
        yield stored_BD
        start += len(stored_BD)


def _reason(feature_D: Block, dataset: Dataset) -> str:
    """Why a feature, (D,), cannot be stored, and what to do."""
    bad_D = ~np.isfinite(feature_D)
    if bad_D.any():
        return f"feature {int(bad_D.argmax())} is {feature_D[bad_D.argmax()]}; wanted finite numbers: leave the row out"
    return f"{float(np.abs(feature_D).max()):g} does not fit {dataset.dtype}; scale the features"


def _chosen(array: SourceArray, rows_N: NDArray[np.int64] | None) -> Iterator[Block]:
    """The rows `rows_N` of an array, in ascending order, or all of them; a block at a time."""
    start = 0
    for block in array.blocks():
        if rows_N is None:
            yield block
        else:
            low, high = np.searchsorted(rows_N, (start, start + len(block)))
            yield block[rows_N[low:high] - start]
        start += len(block)
    if start != array.rows:
        raise CacheInvalid(f"{array.where}: wanted {array.rows} rows, found {start}; save or copy the file again")


def _even(blocks: Iterator[Block], size: int) -> Iterator[Block]:
    """The same rows, `size` at a time. The last block may have fewer."""
    held: list[Block] = []
    count = 0
    for block in blocks:
        while len(block):
            held.append(block[: size - count])
            block = block[size - count :]
            count += len(held[-1])
            if count == size:
                yield _together(held)
                held, count = [], 0
    if held:
        yield _together(held)


def _together(blocks: list[Block]) -> Block:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _rows(table: Table, classes: tuple[str, ...]) -> pl.DataFrame:
    """The table of rows that the cache holds of a split."""
    return pl.DataFrame(
        {
            "row": np.arange(len(table.labels_N)),
            "sample_id": table.ids,
            "label": table.labels_N,
            "class_name": [classes[label] for label in table.labels_N],
        }
    )


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """The array's bytes, little-endian, row after row; a view of the array where they lie so already."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
