"""The feature cache: features that were extracted once, with all that is needed to trust them. Needs no torch.

The words that this package uses:

- A *cache* is a folder of files that never change once it is published. It holds the features of each split as Zarr arrays,
  a table of their rows, and, if there is one, the classifier of stage 1.
- The *identity* is everything that decides the numbers in a cache. Its sha256 is the *key*, which is the folder's name.
- The *manifest*, `manifest.json`, is written last. It holds the identity, the *provenance* (how and by whom the cache was
  made) and the *inventory* (each file with its size and sha256).
- A *view* is one array of features of a split: `clean`, or of images that were augmented, `view-01`, `view-02` and so on.
- An array is cut into *chunks* of whole rows. A *shard* is a file of one chunk, or of several in large caches.
- *Staging* is the folder `.staging` beside the caches. A cache is written there, and *published* by one rename.
- The *journal* of a staging folder lists the shards that are written.
"""

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
    """The classes that need zarr and polars, which take half a second to import; `cache ls` does without."""
    if name == "FeatureCache":
        from cache.reader import FeatureCache

        return FeatureCache
    if name == "CacheWriter":
        from cache.writer import CacheWriter

        return CacheWriter
    raise AttributeError(f"module 'cache' has no attribute {name!r}")
