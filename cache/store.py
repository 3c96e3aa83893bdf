"""Reading a cache: whole or not at all."""

import hashlib
import io
from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from cache import arrays, catalog, checks, files, layout, readers, reading
from cache.errors import CacheCorrupt, CacheInvalid
from cache.files import AGAIN
from cache.layout import CLASSIFIER, view_names
from cache.manifest import Manifest, SplitIdentity


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
        readers.hold(path, cache)
        identity = cache.manifest.identity
        files.check(path, ((entry.file, entry.size) for entry in cache.manifest.inventory))
        for split, rows in ((name, found.rows) for name, found in identity.splits.items()):
            for view in cache.views(split):
                cache._documents[split, view] = arrays.read_document(
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
        reading.read(
            self.path,
            layout.array_file(split, view),
            document,
            start,
            found_BD,
            lambda index: self._checksums[layout.chunk_file(split, view, index)],
        )
        return found_BD

    def rows(self, split: str) -> pl.DataFrame:
        """row, sample_id, label and what else the source knew of each row."""
        self._split(split)
        file = layout.rows_file(split)
        try:
            frame = pl.read_parquet(io.BytesIO(self._proved(file)))
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CacheCorrupt(f"{self.path / file}: cannot be read ({error}); {AGAIN}") from None
        problem = checks.rows_problem(frame, self._split(split).rows, len(self.classes))
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
        identity = self.manifest.identity
        try:
            found = load_safetensors(self._proved(CLASSIFIER))
        except SafetensorError as error:
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: cannot be read ({error}); {AGAIN}") from None
        wanted = {"weight": (len(identity.classes), identity.width), "bias": (len(identity.classes),)}
        shapes = {name: tensor.shape for name, tensor in found.items()}
        if shapes != wanted:
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: wanted {wanted}, found {shapes}; {AGAIN}")
        return found

    def _split(self, split: str) -> SplitIdentity:
        if split not in self.manifest.identity.splits:
            raise CacheInvalid(f"cache {self.key[:12]}: no split {split!r}, found {', '.join(self.splits)}")
        return self.manifest.identity.splits[split]

    def _proved(self, file: str) -> bytes:
        """The bytes of a small file, which are those of the inventory."""
        entry = self.manifest.entry(file)
        assert entry is not None  # the manifest's validator asks for it
        files.check(self.path, [(file, entry.size)])
        content = files.read(self.path, file, entry.size)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise CacheCorrupt(f"{self.path / file}: its sha256 is not the manifest's; {AGAIN}")
        return content
