"""Writing a cache: shard by shard into staging, then one rename. A reader sees all of it or nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType

import numpy as np
import polars as pl
from safetensors.numpy import save as safetensors_bytes

from cache import catalog
from cache import identity as manifests_identity
from cache.disk import durable
from cache.disk.locks import locked
from cache.errors import CacheCorrupt, CacheError, CacheInvalid
from cache.format import admission, decode, description, encode, layout
from cache.identity import Identity
from cache.manifest import Provenance
from cache.staging import sealing
from cache.staging import shards as plan
from cache.staging.journal import Journal
from cache.staging.shards import Shard


class CacheWriter:
    """Writes the cache of an identity under `stores`, or goes on with what an earlier process left in staging.

    A shard counts as written once its bytes and then a line of the journal are on the disk. With `workers` > 1 each of them
    owns every `workers`-th shard, and the last to finish publishes (`publish_if_last`). One process at a time is worker k of
    n: another waits, after a line to `note`. Where locks do not lock, the same is written twice, and one rename wins.

    With `at_once` nothing waits for the disk until `publish`, which then syncs all of it: several times as fast where rows
    are had at no cost. A kill loses nothing then either; a power cut may lose what is not published.
    """

    def __init__(
        self,
        stores: Path,
        identity: Identity,
        provenance: Provenance,
        rows_per_chunk: int | None = None,
        worker: int = 0,
        workers: int = 1,
        note: Callable[[str], None] = lambda text: None,
        at_once: bool = False,
    ) -> None:
        if not 0 <= worker < workers:
            raise CacheInvalid(f"worker {worker} of {workers}: wanted 0 to {workers - 1}")
        self.identity, self.provenance = identity, provenance
        self.stores, self.key = Path(stores), identity.key()
        self.worker, self.workers, self._note, self._sync = worker, workers, note, not at_once
        self.chunk = rows_per_chunk or layout.rows_per_chunk(identity.width, identity.dtype)
        self.chunks_per_shard = layout.chunks_per_shard(identity, self.chunk)
        self._work = self.stores / catalog.STAGING / self.key
        self._data = self._work / layout.DATA
        self._journal = Journal(self._work, self._data, worker)
        self._stack = ExitStack()
        self._frames: dict[str, pl.DataFrame] = {}
        self._classifier: bytes | None = None
        self._published: Path | None = None

    def __enter__(self) -> "CacheWriter":
        durable.make_folder(self._work.parent)
        name = self.key if self.workers == 1 else f"{self.key}.{self.worker}-of-{self.workers}"
        self._stack.enter_context(locked(self._lock(name), self._waiting))
        try:
            # Whoever waited for the lock may find the work done.
            if self._already_published() is None:
                with self._unless_published():
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
        problem = admission.rows_problem(frame, self.identity.splits[split].rows, len(self.identity.classes))
        if problem:
            raise CacheInvalid(f"rows of split {split}: {problem}")
        if manifests_identity.samples_digest(frame["sample_id"].to_list()) != self.identity.splits[split].samples:
            raise CacheInvalid(f"rows of split {split}: the sample ids, or their order, are not the identity's")
        self._frames[split] = frame

    def write_classifier(self, tensors: dict[str, np.ndarray]) -> None:
        """The stage-1 classifier, weight (C, D) and bias (C,), which stage 3 starts from."""
        plain = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
        wanted = {"weight": (len(self.identity.classes), self.identity.width), "bias": (len(self.identity.classes),)}
        found = {name: tensor.shape for name, tensor in plain.items()}
        if found != wanted:
            raise CacheInvalid(f"classifier: wanted {wanted}, found {found}")
        self._classifier = safetensors_bytes(plain)

    @property
    def rows_per_shard(self) -> int:
        return self.chunk * self.chunks_per_shard

    def shards(self, split: str, view: str) -> Iterator[Shard]:
        """Every shard of a view."""
        return plan.of_view(self.identity, split, view, self.rows_per_shard)

    def pending(self, split: str, view: str) -> Iterator[Shard]:
        """The shards of a view that this worker owns and that are not written yet."""
        for shard in plan.owned(self.identity, split, view, self.rows_per_shard, self.worker, self.workers):
            if self._published is None and shard.key not in self._journal.done:
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
            content, checksums = encode.encode(self._document(shard, stored), shard.index, stored)
            durable.make_folder((self._data / file).parent, self._sync)
            durable.replace(self._data / file, content, self._sync)
            checksum = decode.file_checksum(checksums)
            self._journal.add(shard.key, file, content, checksum, self._sync)

    def publish(self) -> Path:
        """Write rows and, last, the manifest; then one rename makes the cache appear. A lost race is as good as a won one.

        Every byte is read back and compared with the journal on the way. Raises CacheInvalid where shards or rows are missing.
        """
        with self._unless_published():
            if self._already_published() is None:
                self._journal.read()
                self._check_complete()
                draft = sealing.Draft(
                    self.identity,
                    self.provenance,
                    self.chunk,
                    self.chunks_per_shard,
                    self._frames,
                    self._classifier,
                )
                sealing.publish(draft, self._work, self.stores, self._journal.done.values(), self._sync)
        durable.remove_tree(self._work)
        return self.stores / self.key

    def publish_if_last(self) -> Path | None:
        """`publish` for one of several workers; None where another has shards to write yet."""
        with nullcontext() if self.workers == 1 else locked(self._lock(self.key), lambda: None):
            with self._unless_published():
                if self._already_published() is None:
                    self._journal.read()
                    if self._missing_rows() is None and self._missing_shard() is not None:
                        return None
            return self.publish()

    def _already_published(self) -> Path | None:
        self._published = self._published or catalog.published(self.stores, self.key)
        return self._published

    def _lock(self, name: str) -> Path:
        return self._work.parent / f"{name}.lock"

    def _waiting(self) -> None:
        who = "" if self.workers == 1 else f", as worker {self.worker} of {self.workers}"
        self._note(f"cache {self.key[:12]}: another process writes it{who}; waiting until it is done")

    def _begin(self) -> None:
        durable.make_folder(self._data)
        self.chunk, self.chunks_per_shard = plan.agreed(self._work, self.identity, self.chunk, self.chunks_per_shard)
        self._journal.read()

    def _document(self, shard: Shard, stored: np.ndarray) -> dict:
        """zarr.json of the shard's array. The first shard written decides on zstd; its zarr.json keeps the decision."""
        file = layout.array_file(shard.split, shard.view)
        path = self._data / file
        rows, width, dtype = self.identity.splits[shard.split].rows, self.identity.width, self.identity.dtype
        if not path.is_file():
            durable.make_folder(path.parent)
            compress = encode.worth_compressing(stored)
            document = description.array_document(rows, width, self.chunk, dtype, compress, self.chunks_per_shard)
            durable.create(path, description.document_bytes(document))
        try:
            return description.read_document(self._data, file, rows, width, self.chunk, dtype, self.chunks_per_shard)
        except (CacheCorrupt, CacheInvalid):
            raise plan.damaged(self._work, f"{layout.DATA}/{file}") from None

    def _storable(self, shard: Shard, features: np.ndarray) -> np.ndarray:
        where = f"{shard.split}/{shard.view}, rows {shard.start} to {shard.stop}"
        wanted = (shard.stop - shard.start, self.identity.width)
        if features.shape != wanted:
            raise CacheInvalid(f"{where}: wanted {wanted}, found {features.shape}")
        stored, offset = admission.storable(features, self.identity.dtype, where)
        if offset is not None:
            row = shard.start + offset
            frame = self._frames.get(shard.split)
            sample = "" if frame is None else f" (sample {frame['sample_id'][row]!r})"
            where = f"{shard.split}/{shard.view}, row {row}{sample}, layer {self.identity.layer}"
            raise CacheInvalid(f"{where}: {admission.refusal(features[offset], self.identity.dtype)}")
        return stored

    def _missing_rows(self) -> str | None:
        """The first split whose rows were not given."""
        return next((split for split in self.identity.splits if split not in self._frames), None)

    def _missing_shard(self) -> Shard | None:
        return plan.first_missing(self.identity, self.rows_per_shard, self._journal.done)

    def _check_complete(self) -> None:
        """Raise CacheInvalid where rows or features are missing."""
        if (split := self._missing_rows()) is not None:
            raise CacheInvalid(f"rows of split {split}: not written; nothing is published")
        if (shard := self._missing_shard()) is not None:
            raise CacheInvalid(
                f"features of {shard.split}/{shard.view}, rows {shard.start} to {shard.stop}: not written; "
                "nothing is published"
            )

    @contextmanager
    def _unless_published(self) -> Iterator[None]:
        """Nothing is left to do, and a staging folder that went away is no error, once another has published."""
        try:
            with durable.storing(self._work):
                yield
        except (OSError, CacheError):
            self._published = catalog.published(self.stores, self.key)
            if self._published is None:
                raise
