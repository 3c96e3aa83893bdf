"""Pruning: listing what may be deleted in a folder of caches and, where it is wanted, deleting it."""

import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache import catalog, in_use, ownership, remove
from cache.disk import durable
from cache.disk.locks import all_free
from cache.errors import CacheError, CacheInUse
from cache.listing import Listing

DECODED_IDLE = 7 * 86_400.0
"""Seconds after which decoded images that nobody used may go; to decode them again takes minutes to hours."""


@dataclass(frozen=True)
class Candidate:
    """A folder or file that `prune` deletes, and the reason. `kept` says why it does not; empty where it does."""

    path: str
    key: str
    bytes: int
    reason: str
    kept: str = ""


def prune(
    stores: Path,
    older_than: float | None = None,
    keep: Iterable[str] = (),
    incomplete_after: float = 86_400.0,
    yes: bool = False,
    now: float | None = None,
) -> list[Candidate]:
    """List what may be deleted and, with `yes`, delete it. What is in use, or not provably coattail's, is listed as kept.

    Candidates are damaged caches; folders in staging that were untouched for `incomplete_after` seconds; caches published
    longer than `older_than` seconds ago that are not in `keep` (keys); local copies whose cache is gone; decoded
    images that were not used for a week or for `older_than`; and parts of local copies and of decoded images that a killed
    process left. Foreign folders are listed and kept. `now` is a time in seconds since 1970.
    """
    now = time.time() if now is None else now
    spared = set(keep)
    candidates = []
    for listing in catalog.ls(stores):
        reason = _reason(listing, stores, older_than, spared, incomplete_after, now)
        if not reason:
            continue
        path, kept = Path(listing.path), _kept(listing, now)
        if path.is_symlink():
            reason += "; a link, what it leads to stays"
        if not kept:
            unpublished = listing.state in catalog.UNPUBLISHED.values()
            kept = _delete(path, unpublished, now) if yes else _used(path, unpublished)
        candidates.append(Candidate(listing.path, listing.key, listing.bytes, reason, kept))
    return [*candidates, *_torn_copies(stores, yes, now)]


def _reason(
    listing: Listing, stores: Path, older_than: float | None, spared: set[str], incomplete_after: float, now: float
) -> str:
    """Why a folder is a candidate; empty where it is none."""
    if listing.state in ("damaged", "foreign"):
        return listing.state
    path = Path(listing.path)
    age = now - (listing.modified if listing.state == "published" else ownership.changed(path))
    if listing.state == "published":
        is_old = older_than is not None and age > older_than and listing.key not in spared
        return f"published {age / 86_400:.0f} days ago" if is_old else ""
    published = catalog.published(stores, listing.key) is not None
    if listing.state == "local":
        return "local copy of a cache that is not here" if age > incomplete_after and not published else ""
    if listing.state == "decoded":
        is_idle = age > (DECODED_IDLE if older_than is None else older_than)
        return f"decoded images, unused for {age / 86_400:.0f} days" if is_idle else ""
    if path.name.startswith(ownership.TRASH) or age > incomplete_after:
        return f"incomplete, untouched for {age / 3600:.0f} h"
    return "left over; the cache is published" if published else ""


def _kept(listing: Listing, now: float) -> str:
    """Why `prune` does not delete a candidate: it is foreign, holds somebody else's file, or may still be being copied."""
    path = Path(listing.path)
    if listing.state == "foreign":
        return "not a cache of coattail's; delete it yourself if it may go"
    if listing.state == "published":
        return remove.foreign_file(path)
    if listing.state == "incomplete":
        files = ownership.foreign_to_staging(path)
        return f"holds {files[0]}, which coattail did not put there; move it away, then try again" if files else ""
    if listing.state != "damaged":
        return ""
    if ownership.is_recent(path, now):
        return "changed within the last hour, so it may still be being copied"
    return (
        remove.foreign_file(path)
        if remove.is_proven(path)
        else f"no whole manifest proves that it is a cache; `cache rm {path.name[:12]}` deletes it"
    )


def _torn_copies(stores: Path, yes: bool, now: float) -> list[Candidate]:
    """Files of local copies and decoded images whose making was cut off, untouched for an hour. Nothing reads them."""
    candidates = []
    kinds = {catalog.LOCAL: "a local copy", catalog.DECODED: "decoded images"}
    torn = [(path, kind) for place, kind in kinds.items() for path in (stores / place).glob(f"*/.*{durable.TEMPORARY}")]
    for path, kind in sorted(torn):
        age = now - ownership.changed(path)
        if age <= ownership.RECENT:
            continue
        kept = ""
        try:
            size = path.stat().st_size
            if yes:
                path.unlink()
        except FileNotFoundError:  # the process that was making it is done
            continue
        except OSError as error:
            kept = f"cannot be deleted ({error.strerror})"
        reason = f"part of {kind}, untouched for {age / 3600:.0f} h"
        candidates.append(Candidate(str(path), path.parent.name, size, reason, kept))
    return candidates


def _used(path: Path, unpublished: bool) -> str:
    """Why a folder cannot be deleted now: somebody reads or writes it; empty where nobody does."""
    try:
        with _unwritten(path) if unpublished else in_use.alone(path):
            return ""
    except CacheInUse as error:
        return str(error)


def _delete(path: Path, unpublished: bool, now: float) -> str:
    """Delete a folder; the reason where that failed, else empty."""
    try:
        if not unpublished:
            remove.rm(path, now)
            return ""
        with _unwritten(path):
            trash = remove.to_trash(path, path.parent.parent)
        shutil.rmtree(trash, ignore_errors=True)
    except CacheError as error:
        return str(error)
    return ""


@contextmanager
def _unwritten(work: Path) -> Iterator[None]:
    """Hold a staging folder against every writer. Raises CacheInUse where one has it locked."""
    with all_free(list(work.parent.glob(f"{work.name}*.lock"))) as free:
        if not free:
            raise CacheInUse(f"{work}: being written; wait until the extraction is done, then try again")
        yield
