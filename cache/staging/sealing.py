"""The last step of writing a cache, its seal: collect the files, compare every byte, write the manifest, publish.

It is done in a new folder `sealed-…` with hard links to the files. So other processes can change nothing by what they do in
the staging folder, and if this step is cut off, all files are still there.
"""

import io
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
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

SEALED_AT_ONCE = 4
"""Files that are read back and synced at a time: some file systems take milliseconds for each sync, whatever its size."""


@dataclass(frozen=True)
class Draft:
    """All of a cache that is about to be published, except its features.

    `frames` has the table of rows of each split. `classifier` holds the bytes of a safetensors file.
    """

    identity: Identity
    provenance: Provenance
    rows_per_chunk: int
    chunks_per_shard: int
    frames: Mapping[str, pl.DataFrame]
    classifier: bytes | None

    def files(self) -> dict[str, bytes]:
        """The files that are written only now, with their bytes: tables of rows, Zarr groups, and the classifier."""
        group = description.document_bytes(description.group_document())
        contents = {f"{layout.FEATURES}/zarr.json": group}
        for split, frame in self.frames.items():
            contents |= {f"{layout.FEATURES}/{split}/zarr.json": group, layout.rows_file(split): rows_bytes(frame)}
        return contents if self.classifier is None else contents | {layout.CLASSIFIER: self.classifier}

    def manifest(self, inventory: Iterable[Entry]) -> bytes:
        """The bytes of manifest.json for a cache of these files."""
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
    """Publish the draft and the features in the staging folder `work` as a cache, by one rename.

    Everything is on the disk before the rename. `synced` says whether the features are there already. Raises CacheStorage
    where the bytes of a shard are not those of its line in the journal, where the disk cannot hold the cache, or where
    something else has its name. The staging folder then stays as it was.
    """
    path, sealed = stores / draft.identity.key(), work / f"sealed-{uuid.uuid4().hex}"
    try:
        with durable.storing(path):
            fresh = draft.files()
            for file, content in fresh.items():
                durable.make_folder((sealed / file).parent, sync=False)  # `appear` syncs the folders, each once
                durable.replace(sealed / file, content)
            known = {entry.file: entry for entry in written}
            cut = (draft.identity, draft.rows_per_chunk, draft.chunks_per_shard)
            files = [file for file in layout.files(*cut) if file not in fresh]
            for file in files:
                _collect(work / layout.DATA, sealed, file)
            with ThreadPoolExecutor(SEALED_AT_ONCE) as pool:
                proofs = pool.map(lambda file: _proved(work, sealed, file, known.get(file), synced), files)
                inventory = [*proofs, *(_entry(sealed, file) for file in fresh)]
            durable.replace(sealed / layout.MANIFEST, draft.manifest(inventory))
            durable.appear(sealed, path)
    finally:
        durable.remove_tree(sealed)


def _collect(data: Path, sealed: Path, file: str) -> None:
    """Link a file of `data` into the sealed folder."""
    if not (data / file).is_file():
        raise _changed(data / file)
    durable.make_folder((sealed / file).parent, sync=False)
    durable.link(data / file, sealed / file)


def _proved(work: Path, sealed: Path, file: str, written: Entry | None, synced: bool) -> Entry:
    """The entry of a file in the sealed folder, which is read back, compared with its line in the journal, and synced."""
    entry = _entry(sealed, file)
    if written is not None and (written.size, written.sha256) != (entry.size, entry.sha256):
        raise _changed(work / layout.DATA / file)
    if not synced:
        durable.sync_file(sealed / file)
    return written or entry


def _changed(path: Path) -> CacheStorage:
    return CacheStorage(f"{path}: changed after it was written; run the same command again")


def _entry(folder: Path, file: str) -> Entry:
    path = folder / file
    return Entry(file=file, size=path.stat().st_size, sha256=durable.sha256(path))


def rows_bytes(frame: pl.DataFrame) -> bytes:
    """The bytes of rows/<split>.parquet."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd", statistics=False)
    return buffer.getvalue()


def _counts(frame: pl.DataFrame, classes: int) -> tuple[int, ...]:
    return tuple(np.bincount(frame["label"].to_numpy(), minlength=classes).tolist())
