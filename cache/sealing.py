"""The last step of a cache: complete the files, prove every byte, and list them in a manifest."""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from cache import durable, layout, manifest
from cache.errors import CacheStorage
from cache.manifest import Entry, Identity, Manifest, Provenance


def complete(
    folder: Path,
    identity: Identity,
    provenance: Provenance,
    chunk: int,
    frames: Mapping[str, pl.DataFrame],
    written: Iterable[Entry],
) -> Manifest:
    """Write rows and group descriptions, remove what does not belong, read everything back; the manifest, not yet written.

    Raises CacheStorage where a shard is not, byte for byte, what the journal says was written.
    """
    _write_tables(folder, frames)
    classifier = [layout.CLASSIFIER] if (folder / layout.CLASSIFIER).is_file() else []
    wanted = {*layout.files(identity, chunk), *classifier}
    for file in [file for file in folder.rglob("*") if not file.is_dir()]:
        if file.relative_to(folder).as_posix() not in wanted:
            os.unlink(file)
    known = {entry.file: entry for entry in written}
    return manifest.build(
        key=identity.key(),
        identity=identity,
        provenance=provenance,
        rows_per_chunk=chunk,
        counts={split: _counts(frame, len(identity.classes)) for split, frame in frames.items()},
        inventory=tuple(_entry(folder, file, known.get(file)) for file in sorted(wanted)),
    )


def rows_bytes(frame: pl.DataFrame) -> bytes:
    """rows/<split>.parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def _write_tables(folder: Path, frames: Mapping[str, pl.DataFrame]) -> None:
    group = layout.document_bytes(layout.group_document())
    durable.make_folder(folder / "rows")
    durable.replace(folder / layout.FEATURES / "zarr.json", group)
    for split, frame in frames.items():
        durable.replace(folder / layout.FEATURES / split / "zarr.json", group)
        durable.replace(folder / layout.rows_file(split), rows_bytes(frame))


def _entry(folder: Path, file: str, written: Entry | None) -> Entry:
    path = folder / file
    found = Entry(file=file, size=path.stat().st_size, sha256=durable.sha256(path))
    if written is None:
        return found
    if (written.size, written.sha256) != (found.size, found.sha256):
        raise CacheStorage(f"{path}: not what was written; run the same command again")
    return written


def _counts(frame: pl.DataFrame, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(frame["label"].to_numpy(), minlength=classes).tolist())
