"""Reading a cache: whole or not at all."""

import hashlib
import io
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from cache import catalog, in_use
from cache.disk import opening
from cache.disk.opening import AGAIN
from cache.errors import CacheCorrupt, CacheInvalid
from cache.format import admission, decode, description, layout
from cache.format.layout import CLASSIFIER, view_names
from cache.identity import SplitIdentity
from cache.manifest import Manifest
from cache.parquet import own, pages

HEADER_BYTES = 1 << 16
"""Bytes of a classifier's file that describe its numbers, at most."""


class FeatureCache:
    """A published cache. `open` checks manifest and inventory; features are read a split at a time, into RAM.

    While the object lives, `cache rm` and `cache prune` leave the folder alone.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._documents: dict[tuple[str, str], dict] = {}
        self._checksums = {entry.file: entry.crc32c for entry in manifest.inventory}

    @classmethod
    def open(cls, path: str | Path) -> "FeatureCache":
        """The cache in a folder.

        Raises CacheNotFound where there is none, CacheInvalid where the manifest is not one of ours or an array's type,
        shape or codecs are not, CacheCorrupt where a file of the inventory is missing or has another size.
        """
        path = Path(path)
        cache = cls(path, catalog.read_manifest(path))
        in_use.hold(path, cache)
        identity = cache.manifest.identity
        catalog.check(path, cache.manifest)
        for split, rows in ((name, found.rows) for name, found in identity.splits.items()):
            for view in cache.views(split):
                cache._documents[split, view] = description.read_document(
                    path,
                    layout.array_file(split, view),
                    rows,
                    identity.width,
                    cache.manifest.rows_per_chunk,
                    identity.dtype,
                    cache.manifest.chunks_per_shard,
                )
        return cache

    @property
    def key(self) -> str:
        return self.manifest.key

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.identity.classes

    @property
    def splits(self) -> list[str]:
        return list(self.manifest.identity.splits)

    def views(self, split: str) -> list[str]:
        """`clean`, then the augmented views."""
        return view_names(self._split(split).views)

    def features(self, split: str, view: str = "clean", out_ND: np.ndarray | None = None) -> np.ndarray:
        """Features of one view, (N, D), in the storage type, put into `out_ND` where that is given.

        Every chunk's checksum is compared with its bytes and with the manifest. Raises CacheCorrupt where one differs.
        """
        return self.slice(split, view, 0, self._split(split).rows, out_ND)

    def slice(self, split: str, view: str, start: int, stop: int, out_BD: np.ndarray | None = None) -> np.ndarray:
        """Rows `start` to `stop` of one view, (stop - start, D), as `features`; whole chunks are read."""
        if view not in self.views(split):
            raise CacheInvalid(
                f"cache {self.key[:12]}, split {split}: no view {view!r}, found {', '.join(self.views(split))}"
            )
        if not 0 <= start <= stop <= self._split(split).rows:
            raise CacheInvalid(
                f"cache {self.key[:12]}, split {split}: rows wanted in 0 to {self._split(split).rows}, found {start} to {stop}"
            )
        document, shape = self._documents[split, view], (stop - start, self.manifest.identity.width)
        found_BD = np.empty(shape, document["data_type"]) if out_BD is None else out_BD
        assert (found_BD.shape, found_BD.dtype) == (shape, document["data_type"])
        decode.read(
            self.path,
            layout.array_file(split, view),
            document,
            start,
            found_BD,
            lambda index: self._checksums[layout.chunk_file(split, view, index)],
        )
        return found_BD

    def rows(self, split: str) -> pl.DataFrame:
        """The table of a split: a row's number, sample_id and label, and what else its source knew of it.

        The file's own description is compared with `own.check`'s limits before any of it is decoded.
        """
        rows, file = self._split(split).rows, layout.rows_file(split)
        content = self._proved(file, own.allowed_bytes(rows))
        try:
            own.check(content, rows)
            frame = pl.read_parquet(io.BytesIO(content))
        except (pages.Unfit, OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            reason = str(error).split("\n")[0]
            raise CacheCorrupt(f"{self.path / file}: cannot be read ({reason}); {AGAIN}") from None
        problem = admission.rows_problem(frame, rows, len(self.classes))
        if problem:
            raise CacheCorrupt(f"{self.path / file}: {problem}; {AGAIN}")
        return frame

    def labels(self, split: str) -> np.ndarray:
        """Class of each row, (N,) int64."""
        return self.rows(split)["label"].to_numpy().astype(np.int64)

    def counts(self, split: str = "train") -> np.ndarray:
        """Rows of each class, (C,) int64."""
        self._split(split)
        return np.array(self.manifest.counts[split], dtype=np.int64)

    def classifier(self) -> dict[str, np.ndarray] | None:
        """The stage-1 classifier, weight (C, D) and bias (C,), where the cache has one."""
        if self.manifest.entry(CLASSIFIER) is None:
            return None
        classes, width = len(self.classes), self.manifest.identity.width
        content = self._proved(CLASSIFIER, 4 * classes * (width + 1) + HEADER_BYTES)
        described = int.from_bytes(content[:8], "little")
        if described > HEADER_BYTES:
            raise CacheCorrupt(
                f"{self.path / CLASSIFIER}: {described} bytes of description, at most {HEADER_BYTES} wanted; {AGAIN}"
            )
        try:
            found = load_safetensors(content)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:  # KeyError: a type that numpy has not
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: cannot be read ({error}); {AGAIN}") from None
        wanted = {"weight": ((classes, width), "float32"), "bias": ((classes,), "float32")}
        kinds = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in found.items()}
        if kinds != wanted:
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: wanted {wanted}, found {str(kinds)[:200]}; {AGAIN}")
        return found

    def _split(self, split: str) -> SplitIdentity:
        if split not in self.manifest.identity.splits:
            raise CacheInvalid(f"cache {self.key[:12]}: no split {split!r}, found {', '.join(self.splits)}")
        return self.manifest.identity.splits[split]

    def _proved(self, file: str, limit: int) -> bytes:
        """The bytes of a small file, which are those of the inventory; CacheInvalid where they are more than `limit`."""
        entry = self.manifest.entry(file)
        assert entry is not None  # the manifest's validator asks for it
        if entry.size > limit:
            raise CacheInvalid(f"{self.path / file}: {entry.size} bytes, at most {limit} wanted; not a cache of ours")
        opening.check(self.path, [(file, entry.size)])
        content = opening.read(self.path, file, entry.size)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise CacheCorrupt(f"{self.path / file}: its sha256 is not the manifest's; {AGAIN}")
        return content
