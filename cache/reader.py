"""Reading a cache. Every byte that is read is compared with a checksum, and damage is an error."""

import hashlib
import io
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from cache import catalog, in_use
from cache.disk import opening
from cache.disk.opening import AGAIN, FOREIGN
from cache.errors import CacheCorrupt, CacheInvalid
from cache.format import admission, decode, description, layout
from cache.format.layout import CLASSIFIER, view_names
from cache.identity import SplitIdentity
from cache.manifest import Manifest
from cache.parquet import own, pages

HEADER_BYTES = 1 << 16
"""The most bytes of the header of a classifier's file, which describes its tensors."""


Features = NDArray[np.floating[Any]]
"""Features as they are stored, float16 or float32."""


class FeatureCache:
    """A published cache. `open` checks its manifest and the sizes of its files. Features are read into RAM, a view at a time.

    While the object lives, `cache rm` and `cache prune` do not delete the folder.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._documents: dict[tuple[str, str], dict] = {}
        self._checksums = {entry.file: entry.crc32c for entry in manifest.inventory}

    @classmethod
    def open(cls, path: str | Path) -> "FeatureCache":
        """The cache in a folder.

        Raises CacheNotFound where there is none. Raises CacheInvalid where coattail did not write the manifest, or an array
        of that type, shape and codecs. Raises CacheCorrupt where a file of the inventory is missing or has another size.
        """
        path = Path(path)
        cache = cls(path, catalog.read_manifest(path))
        in_use.hold(path, cache)
        identity = cache.manifest.identity
        catalog.check(path, cache.manifest)
        for split, split_identity in identity.splits.items():
            for view in layout.array_names(identity, split):
                cache._documents[split, view] = description.read_document(
                    path,
                    layout.array_file(split, view),
                    split_identity.rows,
                    layout.row_shape(identity, view),
                    layout.array_chunk(identity, view, cache.manifest.rows_per_chunk),
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
        """The names of a split's views: `clean`, then the augmented ones."""
        return view_names(self._split(split).views)

    def features(self, split: str, view: str = "clean", out_ND: Features | None = None) -> Features:
        """Features of one view, (N, D), in the type in which they are stored. They are put into `out_ND` if it is given.

        The bytes of every chunk are compared with its checksum, and the checksums with the manifest. Raises CacheCorrupt
        where one differs.
        """
        return self.slice(split, view, 0, self._split(split).rows, out_ND)

    def slice(self, split: str, view: str, start: int, stop: int, out_BD: Features | None = None) -> Features:
        """Rows `start` to `stop` of one view, (stop - start, D), as `features` gives them. Whole chunks are read."""
        if view not in self.views(split):
            raise CacheInvalid(
                f"cache {self.key[:12]}, split {split}: no view {view!r}, found {', '.join(self.views(split))}"
            )
        return self._read(split, view, start, stop, out_BD)

    def maps(self, split: str, start: int = 0, stop: int | None = None) -> Features:
        """The last feature maps of the clean images, rows `start` to `stop`, (stop - start, D, h, w), as they are stored.

        Their mean over the h x w places is the clean feature, up to rounding. They are checked as features are. Raises
        CacheInvalid where the cache was made without `extract.maps`, CacheCorrupt where a checksum differs.
        """
        identity = self.manifest.identity
        rows = self._split(split).rows
        if not identity.maps:
            raise CacheInvalid(
                f"cache {self.key[:12]}: wanted feature maps, found features alone; extract with --set extract.maps=true"
            )
        flat_BF = self._read(split, layout.MAPS, start, rows if stop is None else stop, None)
        return flat_BF.reshape(-1, *layout.row_shape(identity, layout.MAPS))

    def _read(self, split: str, array: str, start: int, stop: int, out_BF: Features | None) -> Features:
        """Rows of an array, each flat."""
        if not 0 <= start <= stop <= self._split(split).rows:
            raise CacheInvalid(
                f"cache {self.key[:12]}, split {split}: rows wanted in 0 to {self._split(split).rows}, found {start} to {stop}"
            )
        document = self._documents[split, array]
        shape = (stop - start, prod(document["shape"][1:]))
        features_BF = np.empty(shape, document["data_type"]) if out_BF is None else out_BF
        assert (features_BF.shape, features_BF.dtype) == (shape, document["data_type"])
        decode.read(
            self.path,
            layout.array_file(split, array),
            document,
            start,
            features_BF,
            lambda index: self._checksums[layout.chunk_file(split, array, index)],
        )
        return features_BF

    def rows(self, split: str) -> pl.DataFrame:
        """The table of a split, a row a sample: its number, sample_id and label, and other columns that its source had.

        How much the file says it decodes to is compared with the limits of `own.check` before any of it is decoded.
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

    def labels(self, split: str) -> NDArray[np.int64]:
        """The class of each row, (N,) int64."""
        return self.rows(split)["label"].to_numpy().astype(np.int64)

    def counts(self, split: str = "train") -> NDArray[np.int64]:
        """The number of rows of each class, (C,) int64."""
        self._split(split)
        return np.array(self.manifest.counts[split], dtype=np.int64)

    def classifier(self) -> dict[str, NDArray[np.float32]] | None:
        """The classifier of stage 1, weight (C, D) and bias (C,). None where the cache has none."""
        if self.manifest.entry(CLASSIFIER) is None:
            return None
        classes, width = len(self.classes), self.manifest.identity.width
        content = self._proved(CLASSIFIER, 4 * classes * (width + 1) + HEADER_BYTES)
        header = int.from_bytes(content[:8], "little")
        if header > HEADER_BYTES:
            raise CacheCorrupt(
                f"{self.path / CLASSIFIER}: wanted a header of at most {HEADER_BYTES} bytes, found {header}; {AGAIN}"
            )
        try:
            tensors = load_safetensors(content)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:  # KeyError: a type that numpy has not
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: cannot be read ({error}); {AGAIN}") from None
        wanted = {"weight": ((classes, width), "float32"), "bias": ((classes,), "float32")}
        kinds = {name: (tensor.shape, str(tensor.dtype)) for name, tensor in tensors.items()}
        if kinds != wanted:
            raise CacheCorrupt(f"{self.path / CLASSIFIER}: wanted {wanted}, found {str(kinds)[:200]}; {AGAIN}")
        return tensors

    def _split(self, split: str) -> SplitIdentity:
        if split not in self.manifest.identity.splits:
            raise CacheInvalid(f"cache {self.key[:12]}: no split {split!r}, found {', '.join(self.splits)}")
        return self.manifest.identity.splits[split]

    def _proved(self, file: str, limit: int) -> bytes:
        """The bytes of a small file, compared with their sha256. Raises CacheInvalid where there are more than `limit`."""
        entry = self.manifest.entry(file)
        assert entry is not None  # a manifest without it does not validate
        if entry.size > limit:
            raise CacheInvalid(f"{self.path / file}: wanted at most {limit} bytes, found {entry.size}; {FOREIGN}")
        opening.check(self.path, [(file, entry.size)])
        content = opening.read(self.path, file, entry.size)
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise CacheCorrupt(f"{self.path / file}: its sha256 is not the manifest's; {AGAIN}")
        return content
