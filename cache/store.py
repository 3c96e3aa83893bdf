"""Reading a cache: whole or not at all."""

from pathlib import Path

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file

from cache import arrays, catalog
from cache.errors import CacheCorrupt, CacheInvalid
from cache.manifest import Entry, Manifest, SplitIdentity

CLASSIFIER = "classifier.safetensors"


class FeatureCache:
    """A published cache. `open` checks manifest and inventory; features are read a split at a time, into RAM."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | Path) -> "FeatureCache":
        """The cache in a folder.

        Raises CacheNotFound where there is none, CacheInvalid where the manifest is not one of ours, CacheCorrupt where a
        file of the inventory is missing or has another size.
        """
        path = Path(path)
        manifest = catalog.read_manifest(path)
        for entry in manifest.inventory:
            _check_entry(path, entry)
        return cls(path, manifest)

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

    def features(self, split: str, view: str = "clean") -> np.ndarray:
        """Features of one view, (N, D), in the storage type; checksums are compared on the way."""
        if view not in self.views(split):
            raise CacheInvalid(
                f"cache {self.key[:12]}, split {split}: no view {view!r}, found {', '.join(self.views(split))}"
            )
        identity = self.manifest.identity
        shape = (self._split(split).rows, identity.width)
        return arrays.read(self.path, split, view, shape, identity.dtype)

    def rows(self, split: str) -> pl.DataFrame:
        """row, sample_id, label and what else the source knew of each row."""
        file = self.path / "rows" / f"{split}.parquet"
        try:
            frame = pl.read_parquet(file)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CacheCorrupt(f"{file}: cannot be read ({error}); pull or extract the cache again") from None
        if len(frame) != self._split(split).rows:
            raise CacheCorrupt(
                f"{file}: wanted {self._split(split).rows} rows, found {len(frame)}; pull or extract the cache again"
            )
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
        file = self.path / CLASSIFIER
        if not any(entry.file == CLASSIFIER for entry in self.manifest.inventory):
            return None
        try:
            found = load_file(file)
        except (OSError, SafetensorError) as error:
            raise CacheCorrupt(f"{file}: cannot be read ({error}); pull or extract the cache again") from None
        identity = self.manifest.identity
        wanted = {"weight": (len(identity.classes), identity.width), "bias": (len(identity.classes),)}
        if {name: tensor.shape for name, tensor in found.items()} != wanted:
            raise CacheCorrupt(
                f"{file}: wanted {wanted}, found { {name: tensor.shape for name, tensor in found.items()} }"
            )
        return found

    def _split(self, split: str) -> SplitIdentity:
        if split not in self.manifest.identity.splits:
            raise CacheInvalid(f"cache {self.key[:12]}: no split {split!r}, found {', '.join(self.splits)}")
        return self.manifest.identity.splits[split]


def view_names(views: int) -> list[str]:
    """`clean` and `view-01`, `view-02`, …"""
    return ["clean", *(f"view-{number:02d}" for number in range(1, views + 1))]


def _check_entry(path: Path, entry: Entry) -> None:
    file = path / entry.file
    if any(part.is_symlink() for part in (file, *file.parents) if part != path and path in part.parents):
        raise CacheInvalid(f"{file}: a symbolic link; a cache holds plain files")
    try:
        size = file.stat().st_size
    except OSError:
        raise CacheCorrupt(f"{file}: missing; pull or extract the cache again") from None
    if size != entry.size:
        raise CacheCorrupt(f"{file}: wanted {entry.size} bytes, found {size}; pull or extract the cache again")
