"""Writing a cache: shard by shard into a staging folder, then one rename. A reader sees the whole cache or nothing."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import save as safetensors_bytes

from cache import catalog
from cache import identity as manifests_identity
from cache.disk import durable
from cache.disk.locks import locked
from cache.errors import CacheError, CacheInvalid
from cache.format import admission, decode, encode, layout
from cache.identity import Identity
from cache.manifest import Provenance
from cache.staging import sealing
from cache.staging import shards as plan
from cache.staging.journal import Journal
from cache.staging.shards import Shard


class CacheWriter:
    """Writes the cache of an identity under `stores`. It continues what an earlier process left in the staging folder.

    A shard counts as written once its bytes, and then its line of the journal, are on the disk. Several processes may share
    the work: each of the `workers` owns every `workers`-th shard, and the last to finish publishes (`publish_if_last`). Two
    processes cannot both be worker k of n: the second calls `note` with a line and waits. Where the file system has no locks,
    both write the same bytes, and the rename of one wins.

    With `at_once` nothing is synced to the disk before `publish`, which then syncs everything. That is several times as fast
    for features that need not be computed. A killed process still loses nothing. A power cut may lose all that is not
    published.
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
            # The process that had the lock before may have published the cache.
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
        """Give the table of a split: row (0 to N-1), sample_id (text, unique), label (0 to C-1), and any other columns.

        Raises CacheInvalid where a column is wrong, or the sample ids are not those of the identity.
        """
        frame = frame.with_columns(pl.col("row").cast(pl.Int64), pl.col("label").cast(pl.Int64))
        problem = admission.rows_problem(frame, self.identity.splits[split].rows, len(self.identity.classes))
        if problem:
            raise CacheInvalid(f"rows of split {split}: {problem}")
        if manifests_identity.samples_digest(frame["sample_id"].to_list()) != self.identity.splits[split].samples:
            raise CacheInvalid(f"rows of split {split}: the sample ids, or their order, are not the identity's")
        self._frames[split] = frame

    def write_classifier(self, tensors: Mapping[str, NDArray[np.floating[Any]]]) -> None:
        """Give the classifier of stage 1, weight (C, D) and bias (C,), from which stage 3 starts.

        Raises CacheInvalid for other names or shapes.
        """
        plain = {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()}
        wanted = {"weight": (len(self.identity.classes), self.identity.width), "bias": (len(self.identity.classes),)}
        shapes = {name: tensor.shape for name, tensor in plain.items()}
        if shapes != wanted:
            raise CacheInvalid(f"classifier: wanted {wanted}, found {shapes}")
        self._classifier = safetensors_bytes(plain)

    @property
    def rows_per_shard(self) -> int:
        """How many rows a full shard has."""
        return self.chunk * self.chunks_per_shard

    def shards(self, split: str, view: str) -> Iterator[Shard]:
        """Every shard of a view."""
        return plan.of_view(self.identity, split, view, self.chunk, self.chunks_per_shard)

    def pending(self, split: str, view: str) -> Iterator[Shard]:
        """The shards of a view that this worker owns and that are not written yet."""
        for shard in plan.owned(
            self.identity, split, view, self.chunk, self.chunks_per_shard, self.worker, self.workers
        ):
            if self._published is None and shard.key not in self._journal.done:
                yield shard

    def write(self, shard: Shard, features_BD: NDArray[np.floating[Any]]) -> None:
        """Write the features of one shard, (stop - start, D), or its maps, (stop - start, D, h, w).

        Raises CacheInvalid where a feature is not finite or does not fit the storage type; then nothing of the shard is
        stored. Raises CacheStorage where the disk cannot hold it.
        """
        stored_BD = self._storable(shard, np.asarray(features_BD))
        file = layout.chunk_file(shard.split, shard.view, shard.index)
        if self._published:
            return
        with self._unless_published():
            document = plan.agreed_document(
                self._work, self.identity, shard, self.chunk, self.chunks_per_shard, stored_BD
            )
            content, checksums = encode.encode(document, stored_BD)
            durable.make_folder((self._data / file).parent, self._sync)
            durable.replace(self._data / file, content, self._sync)
            checksum = decode.file_checksum(checksums)
            self._journal.add(shard.key, file, content, checksum, self._sync)

    def publish(self) -> Path:
        """Write the tables of rows and, last, the manifest; then one rename publishes the cache. Returns its folder.

        Every byte of the features is read back and compared with the journal. Where another process publishes the same cache
        first, its folder is returned. Raises CacheInvalid where shards or rows are missing.
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
        """`publish` for one of several workers. None where another worker has shards left to write."""
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

    def _storable(self, shard: Shard, features_BD: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """The features in the storage type; CacheInvalid, which names the sample, where one does not fit it."""
        where = f"{shard.split}/{shard.view}, rows {shard.start} to {shard.stop}"
        wanted = (shard.stop - shard.start, *layout.row_shape(self.identity, shard.view))
        if features_BD.shape != wanted:
            raise CacheInvalid(f"{where}: wanted {wanted}, found {features_BD.shape}")
        features_BD = features_BD.reshape(len(features_BD), -1)
        stored_BD, offset = admission.storable(features_BD, self.identity.dtype, where)
        if offset is not None:
            row = shard.start + offset
            frame = self._frames.get(shard.split)
            sample = "" if frame is None else f" (sample {frame['sample_id'][row]!r})"
            where = f"{shard.split}/{shard.view}, row {row}{sample}, layer {self.identity.layer}"
            raise CacheInvalid(f"{where}: {admission.refusal(features_BD[offset], self.identity.dtype)}")
        return stored_BD

    def _missing_rows(self) -> str | None:
        """The first split whose table was not given; None where all were."""
        return next((split for split in self.identity.splits if split not in self._frames), None)

    def _missing_shard(self) -> Shard | None:
        return plan.first_missing(self.identity, self.chunk, self.chunks_per_shard, self._journal.done)

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
        """Errors inside are ignored once another process has published the cache: it also removes the staging folder."""
        try:
            with durable.storing(self._work):
                yield
        except (OSError, CacheError):
            self._published = catalog.published(self.stores, self.key)
            if self._published is None:
                raise
