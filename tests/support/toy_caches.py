"""Toy caches: small, whole, and made by the real writer."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from cache import CacheWriter, Identity, Provenance, SplitIdentity
from cache.format.layout import array_names, row_shape
from cache.identity import samples_digest

WIDTH = 8
ROWS = {"train": 50, "test": 20}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ids(split: str, rows: int) -> list[str]:
    return [f"{split}-{row:04d}" for row in range(rows)]


def identity(rows: dict[str, int] | None = None, views: int = 1, **changes) -> Identity:
    splits = {
        name: SplitIdentity(
            rows=count,
            samples=samples_digest(ids(name, count)),
            content=digest(f"content {name}"),
            views=views if name == "train" else 0,
        )
        for name, count in (rows or ROWS).items()
    }
    fields = {
        "classes": ("cat", "dog", "owl"),
        "splits": splits,
        "weights": digest("weights"),
        "backbone": "resnet32",
        "layer": "avgpool",
        "width": WIDTH,
        "transform": {"size": 32, "interpolation": "bilinear", "mean": [0.5]},
        "view_transform": {"crop": 4},
        "views_seed": 0,
        "dtype": "float16",
    }
    return Identity(**(fields | changes))


def frame(split: str, rows: int, classes: int = 3) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row": np.arange(rows),
            "sample_id": ids(split, rows),
            "label": np.arange(rows) % classes,
            "path": ids(split, rows),
        }
    )


def expected(cache_identity: Identity, split: str, view: str) -> np.ndarray:
    """The features, or maps, that every writer here stores, (N, D) or (N, D, h, w); those of layer `relu` have zeros, so that zstd is worth it."""
    seed = int(digest(f"{split} {view}")[:8], 16)
    shape = (cache_identity.splits[split].rows, *row_shape(cache_identity, view))
    features_ND = np.random.default_rng(seed).normal(size=shape).astype(cache_identity.dtype)
    return np.maximum(features_ND - 1, 0) if cache_identity.layer == "relu" else features_ND


def fill(writer: CacheWriter, limit: int | None = None) -> int:
    """Write rows, classifier and the shards that are pending, at most `limit` of them; how many were written."""
    cache_identity = writer.identity
    for split, description in cache_identity.splits.items():
        writer.write_rows(split, frame(split, description.rows, len(cache_identity.classes)))
    classes = len(cache_identity.classes)
    writer.write_classifier({"weight": np.ones((classes, cache_identity.width)), "bias": np.arange(classes)})
    written = 0
    for split in cache_identity.splits:
        for view in array_names(cache_identity, split):
            for shard in writer.pending(split, view):
                if written == limit:
                    return written
                writer.write(shard, expected(cache_identity, split, view)[shard.start : shard.stop].astype(np.float32))
                written += 1
    return written


def make(stores: Path, cache_identity: Identity | None = None, chunk: int = 8, **provenance) -> Path:
    cache_identity = cache_identity or identity()
    with CacheWriter(stores, cache_identity, Provenance(name="toy", **provenance), rows_per_chunk=chunk) as writer:
        fill(writer)
        return writer.publish()


def snapshot(path: Path) -> dict[str, bytes]:
    """Every file's content, by its path inside."""
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
