"""A cache written with one version of Python, zarr, numcodecs and polars is read with another, digest for digest.

$COATTAIL_EXCHANGE names a folder that several environments share: each leaves its caches there and reads all it finds.
Without it, this environment reads its own.
"""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import toy_caches as toys

from cache import FeatureCache
from cache.format.layout import chunk_of
from cache.verify import verify

IDENTITIES = {
    "raw": toys.identity({"train": 300, "test": 20}, width=64),
    "compressed": toys.identity({"train": 300, "test": 20}, width=64, layer="relu"),
    "float32": toys.identity(dtype="float32"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    shared = Path(os.environ.get("COATTAIL_EXCHANGE") or tmp_path_factory.mktemp("exchange"))
    names = "-".join(f"{name}{version(name)}" for name in ("zarr", "numcodecs", "polars"))
    stores = shared / f"python{platform.python_version()}-{names}"
    for identity in IDENTITIES.values():
        toys.make(stores, identity, chunk=64)
    return stores


def _codecs(cache: FeatureCache) -> int:
    return len(cache._documents["train", "clean"]["codecs"])


@pytest.mark.parametrize("kind", IDENTITIES)
def test_whoever_wrote_it_it_is_sound_and_holds_the_same_features(own, kind):
    identity = IDENTITIES[kind]
    writers = sorted(own.parent.iterdir())
    assert own in writers
    for stores in writers:
        path = stores / identity.key()
        assert verify(path).findings == (), stores.name
        cache = FeatureCache.open(path)
        for split, found in identity.splits.items():
            for view in cache.views(split):
                np.testing.assert_array_equal(cache.features(split, view), toys.expected(identity, split, view))
            assert cache.rows(split).equals(toys.frame(split, found.rows))
        assert _codecs(cache) == (3 if kind == "compressed" else 2)


def test_raw_chunks_are_the_same_bytes_whoever_wrote_them(own):
    """zstd may choose other bytes for the same rows in another version; what is stored raw may not."""
    for kind in ("raw", "float32"):
        path = IDENTITIES[kind].key()
        inventories = [FeatureCache.open(stores / path).manifest.inventory for stores in sorted(own.parent.iterdir())]
        chunks = [{entry for entry in inventory if chunk_of(entry.file)} for inventory in inventories]
        assert chunks[0]
        assert all(found == chunks[0] for found in chunks)
