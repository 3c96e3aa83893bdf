"""Push, pull, export and verify with a progress bar; a cache in a bucket is pulled once and then used from here."""

import re
from collections.abc import Sequence
from pathlib import Path

from cache import FeatureCache, catalog, sharing
from cache.errors import CacheError, PlaceInvalid
from cache.exchange.exporting import Exported, export
from cache.format import layout
from cache.sharing import offers, pull, push
from cache.verify import Verification, verify
from pipeline.errors import ConfigError
from pipeline.progress import note, track


def push_shown(path: Path, place: str) -> offers.Shared:
    """Push the cache at `path`; see `cache.sharing.push`."""
    to = sharing.at(place)
    with track(catalog.read_manifest(path).size, f"pushing {path.name[:12]}", "bytes") as progress:
        return push.push(path, to, progress.advance, progress.note)


def pull_shown(place: str, reference: str, stores: Path) -> offers.Shared:
    """Pull a cache, by its key or the start of one, into `stores`; see `cache.sharing.pull`."""
    offer = pull.find(sharing.at(place), reference)
    with track(offer.manifest.size, f"pulling {offer.manifest.key[:12]}", "bytes") as progress:
        return pull.pull(offer, stores, progress.advance, progress.note)


def here(url: str, stores: Path) -> Path:
    """The local copy of the cache at s3://, gs:// or az://BUCKET/FOLDER/KEY; what is here already is not asked for again.

    Raises PlaceInvalid where the address names no key, and what `pull_shown` raises.
    """
    place, _, key = url.rstrip("/").rpartition("/")
    if "://" not in place:
        raise PlaceInvalid(f"{url}: wanted the address of one cache, such as s3://BUCKET/FOLDER/KEY")
    sharing.at(place)
    if layout.KEY.fullmatch(key) and (path := catalog.published(stores, key)):
        return path
    pulled = pull_shown(place, key, stores)
    note(f"{url}: {pulled.state} at {pulled.path}" if pulled.state == "pulled" else f"{url}: {pulled.path} is used")
    return Path(pulled.path)


def export_shown(path: Path, destination: Path, splits: Sequence[str], views: Sequence[str]) -> Exported:
    """Export the cache at `path`; raises as `export` does."""
    cache = FeatureCache.open(path)
    known = cache.manifest.identity.splits
    total = sum(
        known[split].rows * (len(views) or known[split].views + 1) for split in splits or known if split in known
    )
    with track(total, f"exporting {cache.key[:12]}") as progress:
        return export(cache, destination, splits, views, progress.advance)


def verify_shown(path: Path, quick: bool, subset: str | None) -> Verification:
    """Verify the cache at `path`; `subset` is "I/N". Raises ConfigError for another form of it."""
    part = None if subset is None else _part(subset)
    with track(0 if quick else _size(path), f"verifying {path.name[:12]}", "bytes") as progress:
        return verify(path, "quick" if quick else "full", part, advance=progress.advance)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--subset {text}: wanted I/N with 1 <= I <= N, such as 1/5")
    return int(match[1]), int(match[2])


def _size(path: Path) -> int:
    try:
        return catalog.read_manifest(path).size
    except CacheError:
        return 0
