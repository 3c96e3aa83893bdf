"""The last step of a cache: collect what was written, prove every byte, list it in a manifest, let it appear.

It happens in a folder of the publisher's own, to links of the files: what others do to the staging folder meanwhile
changes nothing, and where it is cut off, what was written is still where it was.
"""

import io
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cache import manifest
from cache.disk import durable
from cache.errors import CacheStorage
from cache.format import description, layout
from cache.identity import Identity
from cache.manifest import Entry, Provenance


@dataclass(frozen=True)
class Draft:
    """A cache to be, but for its features: `frames` are the rows of each split, `classifier` is a safetensors file's bytes."""

    identity: Identity
    provenance: Provenance
    rows_per_chunk: int
    chunks_per_shard: int
    frames: Mapping[str, pl.DataFrame]
    classifier: bytes | None

    def files(self) -> dict[str, bytes]:
        """What is written now: rows, groups, classifier."""
        group = description.document_bytes(description.group_document())
        found = {f"{layout.FEATURES}/zarr.json": group}
        for split, frame in self.frames.items():
            found |= {f"{layout.FEATURES}/{split}/zarr.json": group, layout.rows_file(split): rows_bytes(frame)}
        return found if self.classifier is None else found | {layout.CLASSIFIER: self.classifier}

    def manifest(self, inventory: Iterable[Entry]) -> bytes:
        """manifest.json, given what lies on the disk."""
        classes = len(self.identity.classes)
        built = manifest.build(
            key=self.identity.key(),
            identity=self.identity,
            provenance=self.provenance,
            rows_per_chunk=self.rows_per_chunk,
            chunks_per_shard=self.chunks_per_shard,
            counts={split: _counts(frame, classes) for split, frame in self.frames.items()},
            inventory=tuple(sorted(inventory, key=lambda entry: entry.file)),
        )
        return manifest.to_bytes(built)


def publish(draft: Draft, work: Path, stores: Path, written: Iterable[Entry], synced: bool = True) -> None:
    """The draft and the features in a staging folder appear as a cache, by one rename, once all of it is on the disk.

    `synced` says whether the features are on the disk already, or in part still in memory.
    Raises CacheStorage where a shard is not, byte for byte, what the journal says was written, where the disk does not
    take it, or where something is in the way. The staging folder stays as it was.
    """
    path, sealed = stores / draft.identity.key(), work / f"sealed-{uuid.uuid4().hex}"
    try:
        with durable.storing(path):
            fresh = draft.files()
            for file, content in fresh.items():
                durable.make_folder((sealed / file).parent, sync=False)  # `appear` syncs the folders, each once
                durable.replace(sealed / file, content)
            known = {entry.file: entry for entry in written}
            rows_per_file = draft.rows_per_chunk * draft.chunks_per_shard
            files = [file for file in layout.files(draft.identity, rows_per_file) if file not in fresh]
            inventory = [_collect(work / layout.DATA, sealed, file, known.get(file)) for file in files]
            if not synced:
                for file in files:
                    durable.sync_file(sealed / file)
            inventory += [_entry(sealed, file) for file in fresh]
            durable.replace(sealed / layout.MANIFEST, draft.manifest(inventory))
            durable.appear(sealed, path)
    finally:
        durable.remove_tree(sealed)


def _collect(data: Path, sealed: Path, file: str, written: Entry | None) -> Entry:
    """A link to the file, which is read back and compared with the journal's line; what else lies in `data` stays there."""
    changed = CacheStorage(f"{data / file}: not what was written; run the same command again")
    if not (data / file).is_file():
        raise changed
    durable.make_folder((sealed / file).parent, sync=False)
    durable.link(data / file, sealed / file)
    found = _entry(sealed, file)
    if written is None:
        return found
    if (written.size, written.sha256) != (found.size, found.sha256):
        raise changed
    return written


def _entry(folder: Path, file: str) -> Entry:
    path = folder / file
    return Entry(file=file, size=path.stat().st_size, sha256=durable.sha256(path))


def rows_bytes(frame: pl.DataFrame) -> bytes:
    """rows/<split>.parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def _counts(frame: pl.DataFrame, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(frame["label"].to_numpy(), minlength=classes).tolist())
