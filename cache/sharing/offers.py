"""The caches of a place: listing them, and finding one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from cache import catalog
from cache.errors import CacheInvalid, CacheNotFound, CacheUnlisted
from cache.format import layout
from cache.listing import Listing
from cache.manifest import LIMIT, Manifest
from cache.sharing.bucket import Bucket
from cache.sharing.folder import Folder
from cache.sharing.parallel import WORKERS

PUSH_AGAIN = "push the cache again from where it is whole"


@dataclass(frozen=True)
class Offer:
    """A cache that a place has.

    `content` holds the bytes of its manifest, `home` is the folder of its files, and `modified` the time when the manifest was
    written, in seconds since 1970.
    """

    place: "Folder | Bucket"
    manifest: Manifest
    content: bytes
    home: str
    modified: float
    remedy: str = PUSH_AGAIN
    """What to do where a file of it is missing or damaged."""

    @property
    def where(self) -> str:
        return f"{self.place.url}/{self.manifest.key}"


def offer(place: Folder | Bucket, key: str) -> Offer | None:
    """The cache of a whole key, or None where the place has none. CacheInvalid where its manifest is damaged, or another's."""
    name = f"{key}/{layout.MANIFEST}"
    try:
        content, modified = place.read(name, LIMIT)
    except CacheNotFound:
        return None
    manifest = catalog.parse_manifest(content, f"{place.url}/{name}", PUSH_AGAIN)
    if manifest.key != key:
        raise CacheInvalid(
            f"{place.url}/{name}: wanted the manifest of {key[:12]}, found that of {manifest.key[:12]}; {PUSH_AGAIN}"
        )
    return Offer(place, manifest, content, place.home(manifest), modified)


@dataclass(frozen=True)
class Shared:
    """The result of a push or a pull.

    `there` means that nothing was left to do. `theirs` means that another cache of the same key was there first, and stays.
    """

    key: str
    path: str
    state: Literal["pushed", "pulled", "there", "theirs"]
    bytes: int
    author: str
    created: str


def ls(place: Folder | Bucket) -> list[Listing]:
    """The caches of a place, the newest first. A folder without a manifest is no cache, or not yet.

    An object whose name the store's client cannot read is listed last, as foreign.
    """
    unlisted: list[CacheUnlisted] = []
    with ThreadPoolExecutor(WORKERS) as pool:
        listings = list(pool.map(lambda key: _listing(place, key), place.names(unlisted.append)))
    foreign = [Listing(error.name, f"{place.url}/…", "foreign", 0, 0.0, problem=str(error)) for error in unlisted]
    caches = [listing for listing in listings if listing is not None]
    return sorted([*caches, *foreign], key=lambda listing: (listing.state != "published", -listing.modified))


def _listing(place: Folder | Bucket, key: str) -> Listing | None:
    if isinstance(place, Folder):
        return catalog.describe(place.path / key)
    try:
        cache = offer(place, key)
    except CacheInvalid as error:
        return Listing(key, f"{place.url}/{key}", "damaged", 0, 0.0, problem=str(error))
    return None if cache is None else Listing.of(cache.manifest, cache.where, cache.modified)


def shared(manifest: Manifest, path: str, state: Literal["pushed", "pulled", "there", "theirs"]) -> Shared:
    """The result for a cache of this manifest."""
    provenance = manifest.provenance
    return Shared(manifest.key, path, state, manifest.size, provenance.author, provenance.created)
