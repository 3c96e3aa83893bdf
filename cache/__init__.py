"""The feature store: features extracted once, described, checksummed, never changed. Needs no torch."""

from typing import TYPE_CHECKING, Any

from cache.errors import CacheCorrupt, CacheError, CacheInvalid, CacheNotFound
from cache.identity import Identity, SplitIdentity
from cache.manifest import Manifest, Provenance

if TYPE_CHECKING:
    from cache.reader import FeatureCache
    from cache.writer import CacheWriter

__all__ = [
    "CacheCorrupt",
    "CacheError",
    "CacheInvalid",
    "CacheNotFound",
    "CacheWriter",
    "FeatureCache",
    "Identity",
    "Manifest",
    "Provenance",
    "SplitIdentity",
]


def __getattr__(name: str) -> Any:
    """zarr and polars take half a second to import: only whoever opens or writes a cache pays for them."""
    if name == "FeatureCache":
        from cache.reader import FeatureCache

        return FeatureCache
    if name == "CacheWriter":
        from cache.writer import CacheWriter

        return CacheWriter
    raise AttributeError(f"module 'cache' has no attribute {name!r}")
