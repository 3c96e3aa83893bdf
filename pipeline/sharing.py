"""`cache.share` with a bar, and a cache in a bucket as if it were here: it is pulled once."""

from pathlib import Path

from cache import catalog, remote, share
from cache.errors import PlaceInvalid
from pipeline.progress import note, track


def push_shown(path: Path, place: str) -> share.Shared:
    """Push the cache at `path`; see `cache.share.push`."""
    to = remote.at(place)
    with track(catalog.read_manifest(path).size, f"pushing {path.name[:12]}", "bytes") as progress:
        return share.push(path, to, progress.advance, progress.note)


def pull_shown(place: str, reference: str, stores: Path) -> share.Shared:
    """Pull a cache, by its key or the start of one, into `stores`; see `cache.share.pull`."""
    offer = share.find(remote.at(place), reference)
    with track(offer.manifest.size, f"pulling {offer.manifest.key[:12]}", "bytes") as progress:
        return share.pull(offer, stores, progress.advance, progress.note)


def here(url: str, stores: Path) -> Path:
    """The local copy of the cache at s3://, gs:// or az://BUCKET/FOLDER/KEY; what is here already is not asked for again.

    Raises PlaceInvalid where the address names no key, and what `pull_shown` raises.
    """
    place, _, key = url.rstrip("/").rpartition("/")
    if "://" not in place:
        raise PlaceInvalid(f"{url}: wanted the address of one cache, such as s3://BUCKET/FOLDER/KEY")
    remote.at(place)
    if remote.KEY.fullmatch(key) and (found := catalog.published(stores, key)):
        return found
    pulled = pull_shown(place, key, stores)
    note(f"{url}: {pulled.state} at {pulled.path}" if pulled.state == "pulled" else f"{url}: {pulled.path} is used")
    return Path(pulled.path)
