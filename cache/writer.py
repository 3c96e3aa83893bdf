"""Writing a cache: shard by shard into staging, then one rename. A reader sees all of it or nothing."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl
from filelock import FileLock
from safetensors.numpy import save as safetensors_bytes

from cache import arrays, catalog, durable
from cache.errors import CacheInvalid
from cache.manifest import NAME, Entry, Identity, Manifest, Provenance
from cache.store import CLASSIFIER, view_names


@dataclass(frozen=True)
class Shard:
    """Rows `start` to `stop` of one view: a chunk, the unit of writing and of resuming."""

    split: str
    view: str
    index: int
    start: int
    stop: int


class CacheWriter:
    """Writes the cache of an identity under `stores`, or goes on with what an earlier process left in staging.

    A shard counts as written once its bytes and then a line of the journal are on the disk. The lock only saves work: two
    writers of one key write equal bytes, and one rename wins.
    """

    def __init__(
        self, stores: Path, identity: Identity, provenance: Provenance, rows_per_chunk: int | None = None
    ) -> None:
        self.identity, self.provenance = identity, provenance
        self.stores, self.key = Path(stores), identity.key()
        self.chunk = rows_per_chunk or arrays.rows_per_chunk(identity.width, identity.dtype)
        self._work = self.stores / ".staging" / self.key
        self._data = self._work / "data"
        self._journal = self._work / "journal.jsonl"
        self._lock = FileLock(self.stores / ".staging" / f"{self.key}.lock")
        self._done: dict[tuple[str, str, int], Entry] = {}
        self._frames: dict[str, pl.DataFrame] = {}

    def __enter__(self) -> "CacheWriter":
        self._data.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        self._data.mkdir(parents=True, exist_ok=True)
        self._done = self._read_journal()
        arrays.create_group(self._data, list(self.identity.splits))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def write_rows(self, split: str, frame: pl.DataFrame) -> None:
        """Columns row (0 to N-1), sample_id (unique), label (in range), and whatever else the source knows."""
        wanted = self.identity.splits[split].rows
        labels = frame["label"].cast(pl.Int64)
        classes = len(self.identity.classes)
        if len(frame) != wanted or frame["row"].to_list() != list(range(wanted)):
            raise CacheInvalid(
                f"rows of split {split}: wanted rows 0 to {wanted - 1} in order, found {len(frame)} rows"
            )
        if frame["sample_id"].is_duplicated().any():
            twice = frame.filter(frame["sample_id"].is_duplicated())["sample_id"][0]
            raise CacheInvalid(
                f"rows of split {split}: sample_id {twice!r} stands twice; sample ids are unique in a split"
            )
        outside = frame.filter(~labels.is_between(0, classes - 1))
        if len(outside):
            raise CacheInvalid(
                f"rows of split {split}: label {outside['label'][0]} of sample {outside['sample_id'][0]!r}, "
                f"wanted 0 to {classes - 1}"
            )
        self._frames[split] = frame.with_columns(label=labels)

    def write_classifier(self, tensors: dict[str, np.ndarray]) -> None:
        """The stage-1 classifier, weight (C, D) and bias (C,), which stage 3 starts from."""
        plain = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
        durable.write(self._data / CLASSIFIER, safetensors_bytes(plain))

    def shards(self, split: str, view: str) -> Iterator[Shard]:
        """Every shard of a view."""
        rows = self.identity.splits[split].rows
        for index, start in enumerate(range(0, rows, self.chunk)):
            yield Shard(split, view, index, start, min(start + self.chunk, rows))

    def pending(self, split: str, view: str) -> Iterator[Shard]:
        """The shards of a view that are not written yet."""
        yield from (shard for shard in self.shards(split, view) if (split, view, shard.index) not in self._done)

    def write(self, shard: Shard, features: np.ndarray) -> None:
        """Features of one shard, (stop - start, D).

        Raises CacheInvalid where one is not finite or does not fit the storage type; nothing of the shard is stored then.
        """
        stored = self._storable(shard, np.asarray(features))
        rows = self.identity.splits[shard.split].rows
        compress = not (
            self._data / arrays.FOLDER / shard.split / shard.view / "zarr.json"
        ).is_file() and self._compress(stored)
        array = arrays.create(
            self._data, shard.split, shard.view, (rows, self.identity.width), self.chunk, self.identity.dtype, compress
        )
        array[shard.start : shard.stop] = stored
        file = arrays.chunk_file(shard.split, shard.view, shard.index)
        durable.sync_file(self._data / file)
        durable.sync_folder((self._data / file).parent)
        entry = self._entry(file)
        self._append({"split": shard.split, "view": shard.view, "index": shard.index, **entry.model_dump()})
        self._done[shard.split, shard.view, shard.index] = entry

    def publish(self) -> Path:
        """Write rows and, last, the manifest; then one rename makes the cache appear. A lost race is as good as a won one."""
        (self._data / "rows").mkdir(exist_ok=True)
        for split, frame in self._frames.items():
            self._write_frame(split, frame)
        self._check_complete()
        manifest = Manifest(
            key=self.key,
            identity=self.identity,
            provenance=self.provenance,
            inventory=tuple(self._inventory()),
            counts={split: self._counts(frame) for split, frame in self._frames.items()},
        )
        durable.write(self._data / NAME, (manifest.model_dump_json(indent=1) + "\n").encode())
        for folder, _, _ in os.walk(self._data, topdown=False):
            durable.sync_folder(Path(folder))
        path = self.stores / self.key
        try:
            self._data.rename(path)
            durable.sync_folder(self.stores)
        except OSError:
            if catalog.published(self.stores, self.key) is None:
                raise
        shutil.rmtree(self._work, ignore_errors=True)
        return path

    def _storable(self, shard: Shard, features: np.ndarray) -> np.ndarray:
        wanted = (shard.stop - shard.start, self.identity.width)
        if features.shape != wanted:
            raise CacheInvalid(
                f"{shard.split}/{shard.view}, rows {shard.start} to {shard.stop}: wanted {wanted}, found {features.shape}"
            )
        with np.errstate(over="ignore"):
            stored = features.astype(self.identity.dtype)
        bad = ~np.isfinite(stored).all(axis=1)
        if bad.any():
            self._refuse(shard, features, int(bad.argmax()))
        return stored

    def _refuse(self, shard: Shard, features: np.ndarray, offset: int) -> None:
        row = shard.start + offset
        frame = self._frames.get(shard.split)
        sample = "" if frame is None else f" (sample {frame['sample_id'][row]!r})"
        where = f"{shard.split}/{shard.view}, row {row}{sample}, layer {self.identity.layer}"
        if np.isfinite(features[offset]).all():
            largest = float(np.abs(features[offset]).max())
            raise CacheInvalid(f"{where}: {largest:g} does not fit {self.identity.dtype}; set extract.dtype=float32")
        raise CacheInvalid(f"{where}: the feature is not finite; look at the image, or extract with extract.amp=off")

    def _compress(self, stored: np.ndarray) -> bool:
        return arrays.worth_compressing(stored)

    def _write_frame(self, split: str, frame: pl.DataFrame) -> None:
        path = self._data / "rows" / f"{split}.parquet"
        frame.write_parquet(path, compression="zstd", statistics=False)
        durable.sync_file(path)

    def _check_complete(self) -> None:
        for split, identity in self.identity.splits.items():
            if split not in self._frames:
                raise CacheInvalid(f"split {split}: its rows were not written; nothing is published")
            for view in view_names(identity.views):
                missing = next(self.pending(split, view), None)
                if missing is not None:
                    raise CacheInvalid(
                        f"{split}/{view}: rows {missing.start} to {missing.stop} are missing; nothing is published"
                    )

    def _inventory(self) -> Iterator[Entry]:
        known = {entry.file: entry for entry in self._done.values()}
        for folder, folders, files in os.walk(self._data):
            folders.sort()
            for name in sorted(files):
                file = (Path(folder) / name).relative_to(self._data).as_posix()
                if file != NAME and not name.endswith(".tmp"):
                    yield known.get(file) or self._entry(file)

    def _entry(self, file: str) -> Entry:
        path = self._data / file
        return Entry(file=file, size=path.stat().st_size, sha256=durable.sha256(path))

    def _counts(self, frame: pl.DataFrame) -> tuple[int, ...]:
        return tuple(np.bincount(frame["label"].to_numpy(), minlength=len(self.identity.classes)).tolist())

    def _append(self, line: dict[str, object]) -> None:
        with self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _read_journal(self) -> dict[tuple[str, str, int], Entry]:
        """What is written; a torn last line, or a line whose file is not as it says, does not count."""
        found: dict[tuple[str, str, int], Entry] = {}
        lines = self._journal.read_text(encoding="utf-8").splitlines() if self._journal.is_file() else []
        for text in lines:
            try:
                line = json.loads(text)
                entry = Entry(file=line["file"], size=line["size"], sha256=line["sha256"])
                if self._entry(entry.file) == entry:
                    found[line["split"], line["view"], line["index"]] = entry
            except (ValueError, KeyError, OSError):
                continue
        return found
