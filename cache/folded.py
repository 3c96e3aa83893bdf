"""Folds of a cache: the rows of its training and test splits divided anew, so that each is tested once.

A fold is read like a cache, and has a key of its own. It has no files: its rows are the cache's. Only clean features are taken,
because test rows have no augmented views.
"""

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.identity import SplitIdentity, canonical, samples_digest
from cache.reader import FeatureCache, Features

POOLED = ("train", "test")


class PooledRows:
    """The clean rows of a cache's training and test splits, one after the other; they are read once for all folds."""

    def __init__(self, cache: FeatureCache) -> None:
        self.cache = cache
        splits = [split for split in POOLED if split in cache.splits]
        self.frame = pl.concat([cache.rows(split) for split in splits], how="diagonal")
        self.features_ND = np.concatenate([cache.features(split) for split in splits])
        self.labels_N = self.frame["label"].to_numpy().astype(np.int64)

    def fold(self, fold_N: NDArray[np.int64], number: int) -> "Fold":
        """The rows that `fold_N` (N,) gives this number as the test split, the others as the training split.

        Raises CacheInvalid where one of the two is empty.
        """
        return Fold(self, fold_N, number)


class Fold(FeatureCache):
    """One fold. Other splits than `train` and `test` are the cache's own. It has no stage-1 classifier: that may have seen
    rows that are tested here."""

    def __init__(self, pooled: PooledRows, fold_N: NDArray[np.int64], number: int) -> None:
        tested_N = fold_N == number
        self._pooled = pooled
        self._rows_of = {"train": np.flatnonzero(~tested_N), "test": np.flatnonzero(tested_N)}
        if empty := [split for split, rows in self._rows_of.items() if len(rows) == 0]:
            raise CacheInvalid(f"cache {pooled.cache.key[:12]}, fold {number}: wanted rows of {empty[0]}, found none")
        whole = pooled.cache.manifest
        own = {split: _identity(pooled, rows) for split, rows in self._rows_of.items()}
        classes = len(whole.identity.classes)
        counts = {
            split: tuple(np.bincount(pooled.labels_N[rows], minlength=classes).tolist())
            for split, rows in self._rows_of.items()
        }
        identity = whole.identity.model_copy(update={"splits": {**whole.identity.splits, **own}})
        division = {"cache": whole.key, "train": own["train"].samples, "test": own["test"].samples}
        key = hashlib.sha256(canonical(division)).hexdigest()
        update = {"key": key, "identity": identity, "counts": {**whole.counts, **counts}}
        super().__init__(pooled.cache.path, whole.model_copy(update=update))

    def slice(self, split: str, view: str, start: int, stop: int, out_BD: Features | None = None) -> Features:
        if split not in self._rows_of:
            return self._pooled.cache.slice(split, view, start, stop, out_BD)
        if view not in self.views(split):
            raise CacheInvalid(f"cache {self.key[:12]}, split {split}: no view {view!r}, found clean")
        return np.take(self._pooled.features_ND, self._rows_of[split][start:stop], axis=0, out=out_BD)

    def maps(self, split: str, start: int = 0, stop: int | None = None) -> Features:
        """Raises CacheInvalid: a fold has clean features alone."""
        raise CacheInvalid(f"cache {self.key[:12]}: a fold has clean features alone, wanted feature maps of {split}")

    def rows(self, split: str) -> pl.DataFrame:
        if split not in self._rows_of:
            return self._pooled.cache.rows(split)
        frame = self._pooled.frame[self._rows_of[split]]
        return frame.with_columns(pl.Series("row", np.arange(frame.height), dtype=frame["row"].dtype))

    def classifier(self) -> None:
        return None


def _identity(pooled: PooledRows, rows: NDArray[np.int64]) -> SplitIdentity:
    ids = pooled.frame["sample_id"][rows].to_list()
    samples = samples_digest(ids)
    return SplitIdentity(rows=len(rows), samples=samples, content=hashlib.sha256(samples.encode()).hexdigest())
