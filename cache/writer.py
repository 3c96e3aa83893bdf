"""Writing a cache: shard by shard into staging, then one rename. A reader sees all of it or nothing."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl
from filelock import FileLock
from safetensors.numpy import save as safetensors_bytes

from cache import arrays, catalog, checks, durable, layout, reading, sealing
from cache import manifest as manifests
from cache.errors import CacheInvalid, CacheStorage
from cache.journal import Journal
from cache.layout import CLASSIFIER, view_names
from cache.manifest import Identity, Provenance

SHARDS = "features of"


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

    A shard counts as written once its bytes and then a line of the journal are on the disk. With `workers` > 1 each of them
    owns every `workers`-th shard, the last to finish publishes (`publish_if_last`), and nobody waits for anybody. Locks
    only save work: two writers of one key write equal rows, and one rename wins.
    """

    def __init__(
        self,
        stores: Path,
        identity: Identity,
        provenance: Provenance,
        rows_per_chunk: int | None = None,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        if not 0 <= worker < workers:
            raise CacheInvalid(f"worker {worker} of {workers}: wanted 0 to {workers - 1}")
        self.identity, self.provenance = identity, provenance
        self.stores, self.key = Path(stores), identity.key()
        self.worker, self.workers = worker, workers
        self.chunk = rows_per_chunk or layout.rows_per_chunk(identity.width, identity.dtype)
        self._work = self.stores / catalog.STAGING / self.key
        self._data = self._work / "data"
        self._journal = Journal(self._work, self._data, worker)
        self._stack = ExitStack()
        self._frames: dict[str, pl.DataFrame] = {}
        self._published: Path | None = None

    def __enter__(self) -> "CacheWriter":
        durable.make_folder(self._work.parent)
        name = self.key if self.workers == 1 else f"{self.key}.{self.worker}-of-{self.workers}"
        self._stack.enter_context(_lock(self._work.parent / f"{name}.lock"))
        try:
            # Whoever waited for the lock may find the work done.
            self._published = catalog.published(self.stores, self.key)
            if self._published is None:
                self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def write_rows(self, split: str, frame: pl.DataFrame) -> None:
        """Columns row (0 to N-1), sample_id (unique, str), label (in range), and whatever else the source knows."""
        frame = frame.with_columns(pl.col("row").cast(pl.Int64), pl.col("label").cast(pl.Int64))
        problem = checks.rows_problem(frame, self.identity.splits[split].rows, len(self.identity.classes))
        if problem:
            raise CacheInvalid(f"rows of split {split}: {problem}")
        if manifests.samples_digest(frame["sample_id"].to_list()) != self.identity.splits[split].samples:
            raise CacheInvalid(f"rows of split {split}: the sample ids, or their order, are not the identity's")
        self._frames[split] = frame

    def write_classifier(self, tensors: dict[str, np.ndarray]) -> None:
        """The stage-1 classifier, weight (C, D) and bias (C,), which stage 3 starts from."""
        plain = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
        wanted = {"weight": (len(self.identity.classes), self.identity.width), "bias": (len(self.identity.classes),)}
        found = {name: tensor.shape for name, tensor in plain.items()}
        if found != wanted:
            raise CacheInvalid(f"classifier: wanted {wanted}, found {found}")
        if self._published:
            return
        with self._unless_published():
            durable.replace(self._data / CLASSIFIER, safetensors_bytes(plain))

    def shards(self, split: str, view: str) -> Iterator[Shard]:
        """Every shard of a view."""
        rows = self.identity.splits[split].rows
        for index, start in enumerate(range(0, rows, self.chunk)):
            yield Shard(split, view, index, start, min(start + self.chunk, rows))

    def pending(self, split: str, view: str) -> Iterator[Shard]:
        """The shards of a view that this worker owns and that are not written yet."""
        views = [(name, one) for name, found in self.identity.splits.items() for one in view_names(found.views)]
        # Views take turns in who starts: with few shards a view, every worker still gets some.
        turn = views.index((split, view))
        for shard in self.shards(split, view):
            if self._published or (shard.index + turn) % self.workers != self.worker:
                continue
            if (split, view, shard.index) not in self._journal.done:
                yield shard

    def write(self, shard: Shard, features: np.ndarray) -> None:
        """Features of one shard, (stop - start, D).

        Raises CacheInvalid where one is not finite or does not fit the storage type; nothing of the shard is stored then.
        CacheStorage where the disk does not take it.
        """
        stored = self._storable(shard, np.asarray(features))
        file = layout.chunk_file(shard.split, shard.view, shard.index)
        if self._published:
            return
        with self._unless_published():
            content = arrays.encode(self._document(shard, stored), shard.index, stored)
            durable.make_folder((self._data / file).parent)
            durable.replace(self._data / file, content)
            checksum = reading.file_checksum([content[-layout.CRC_BYTES :]])
            self._journal.add((shard.split, shard.view, shard.index), file, content, checksum)

    def publish(self) -> Path:
        """Write rows and, last, the manifest; then one rename makes the cache appear. A lost race is as good as a won one.

        Every byte is read back and compared with the journal on the way. Raises CacheInvalid where shards or rows are missing.
        """
        if self._already_published() is None:
            self._journal.read()
            if missing := self._missing():
                raise CacheInvalid(f"{missing}; nothing is published")
            return self._seal()
        shutil.rmtree(self._work, ignore_errors=True)
        return self.stores / self.key

    def publish_if_last(self) -> Path | None:
        """`publish` for one of several workers; None where another has shards to write yet."""
        with nullcontext() if self.workers == 1 else _lock(self._work.parent / f"{self.key}.lock"):
            if self._already_published() is None:
                self._journal.read()
                if self._missing().startswith(SHARDS):
                    return None
            return self.publish()

    def _already_published(self) -> Path | None:
        self._published = self._published or catalog.published(self.stores, self.key)
        return self._published

    def _begin(self) -> None:
        durable.make_folder(self._data)
        for sealed in self._work.glob("sealed-*"):  # killed while publishing: what it held is as good as before
            with suppress(OSError):
                os.rmdir(self._data)
                os.rename(sealed, self._data)
        durable.make_folder(self._data)
        plan = self._work / "plan.json"
        durable.create(plan, json.dumps({"rows_per_chunk": self.chunk}).encode())
        self.chunk = int(json.loads(plan.read_bytes())["rows_per_chunk"])
        self._journal.read()

    def _document(self, shard: Shard, stored: np.ndarray) -> dict:
        """zarr.json of the shard's array. The first shard written decides on zstd; its zarr.json keeps the decision."""
        path = self._data / layout.array_file(shard.split, shard.view)
        rows, width, dtype = self.identity.splits[shard.split].rows, self.identity.width, self.identity.dtype
        if not path.is_file():
            durable.make_folder(path.parent)
            compress = arrays.worth_compressing(stored)
            document = layout.array_document(rows, width, self.chunk, dtype, compress)
            durable.create(path, layout.document_bytes(document))
        return arrays.read_document(path.parent, rows, width, self.chunk, dtype)

    def _storable(self, shard: Shard, features: np.ndarray) -> np.ndarray:
        where = f"{shard.split}/{shard.view}, rows {shard.start} to {shard.stop}"
        wanted = (shard.stop - shard.start, self.identity.width)
        if features.shape != wanted:
            raise CacheInvalid(f"{where}: wanted {wanted}, found {features.shape}")
        stored, offset = checks.storable(features, self.identity.dtype, where)
        if offset is not None:
            row = shard.start + offset
            frame = self._frames.get(shard.split)
            sample = "" if frame is None else f" (sample {frame['sample_id'][row]!r})"
            where = f"{shard.split}/{shard.view}, row {row}{sample}, layer {self.identity.layer}"
            raise CacheInvalid(f"{where}: {checks.refusal(features[offset], self.identity.dtype)}")
        return stored

    def _missing(self) -> str:
        for split, identity in self.identity.splits.items():
            if split not in self._frames:
                return f"rows of split {split}: not written"
            for view in view_names(identity.views):
                for shard in self.shards(split, view):
                    if (split, view, shard.index) not in self._journal.done:
                        return f"{SHARDS} {split}/{view}, rows {shard.start} to {shard.stop}: not written"
        return ""

    def _seal(self) -> Path:
        """Take the data out of every other writer's reach, prove it, write the manifest, let it appear."""
        path, sealed = self.stores / self.key, self._work / f"sealed-{os.getpid()}"
        with durable.storing(path):
            try:
                os.rename(self._data, sealed)
                manifest = sealing.complete(
                    sealed, self.identity, self.provenance, self.chunk, self._frames, self._journal.done.values()
                )
                durable.replace(sealed / layout.MANIFEST, manifests.to_bytes(manifest))
                durable.sync_tree(sealed)
                durable.rename(sealed, path)
            except OSError as error:
                if catalog.published(self.stores, self.key) is None:
                    with suppress(OSError):
                        os.rename(sealed, self._data)
                    if not isinstance(error, CacheStorage) and path.is_dir():
                        raise CacheStorage(
                            f"{path}: a folder that is no cache is in the way; remove it, then run the same command again"
                        ) from None
                    raise
        shutil.rmtree(self._work, ignore_errors=True)
        return path

    @contextmanager
    def _unless_published(self) -> Iterator[None]:
        """Nothing is left to do, and a staging folder that went away is no error, once another has published."""
        try:
            yield
        except OSError:
            self._published = catalog.published(self.stores, self.key)
            if self._published is None:
                raise


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """The file's lock; none where the file system has no locks."""
    lock = FileLock(path)
    try:
        with durable.storing(path):
            lock.acquire()
    except NotImplementedError:
        yield
        return
    try:
        yield
    finally:
        lock.release()
