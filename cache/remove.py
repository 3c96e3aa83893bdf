"""Removing caches.

A cache that somebody reads or writes stays, and so does every folder that is not provably a cache's. What is removed leaves
its place by one rename, so that others see all of it or nothing.
"""

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache import catalog, in_use, manifest, ownership
from cache.catalog import Listing
from cache.disk import durable
from cache.disk.locks import all_free
from cache.errors import CacheError, CacheInUse, CacheInvalid, CacheNotFound, CacheStorage

TRASH = "trash-"
"""How the name of a folder begins that was renamed to be deleted."""


@dataclass(frozen=True)
class Candidate:
    """A folder or file that `prune` deletes, and the reason. `kept` says why it does not; empty where it does."""

    path: str
    key: str
    bytes: int
    reason: str
    kept: str = ""


@dataclass(frozen=True)
class Removal:
    """What `rm` removed: the bytes that are free now. Where only a link was removed, `led_to` is the folder it led to."""

    bytes: int
    led_to: str = ""


def rm(path: Path, now: float | None = None) -> Removal:
    """Delete a published cache and its local copy. Of a link to a cache, only the link is removed.

    Raises CacheInUse where somebody has the cache open, and CacheNotFound where there is none. Raises CacheInvalid where
    nothing proves that the folder is a cache's, and where it holds a file that no cache has. Raises it too for a folder that
    lacks its manifest or other files and was changed within the last hour, because it may still be being copied.
    """
    path = Path(path)
    if path.name in ("", ".."):
        path = path.resolve()
    if not catalog.is_cache(path):
        raise CacheNotFound(f"{path}: no cache there; `cache ls` lists those there are")
    listing = catalog.describe(path)
    if refusal := _refusal(path, now):
        raise CacheInvalid(f"{path}: {refusal}")
    if path.is_symlink():
        led_to = str(path.resolve())
        with durable.storing(path):
            os.unlink(path)
        return Removal(0, led_to)
    with in_use.alone(path):
        trash = to_trash(path, path.parent)
    local = path.parent / catalog.LOCAL / listing.key
    freed = listing.bytes + sum(file.stat().st_size for file in local.glob("*"))
    for folder in (trash, local):  # a process that has mapped the copy keeps its memory
        shutil.rmtree(folder, ignore_errors=True)
    return Removal(freed)


def _refusal(path: Path, now: float | None) -> str:
    """Why `rm` does not delete a folder; empty where it may."""
    if _is_proven(path):
        return _inhabited(path) or _arriving(path, time.time() if now is None else now)
    if not ownership.is_shaped(path):
        return "not provably a cache's folder, so coattail does not delete it; delete it yourself if it may go"
    if ownership.is_recent(path, now):
        return (
            "has no manifest that names it and was changed within the last hour, so it may still be being copied; "
            "try again an hour after the last change"
        )
    return ""


def _inhabited(path: Path) -> str:
    """The refusal for a cache's folder that holds a file of somebody else's; empty where there is none, and for a link."""
    strangers = [] if path.is_symlink() else ownership.strangers(path)
    return f"holds {strangers[0]}, which belongs to no cache; move it away, then try again" if strangers else ""


def _arriving(path: Path, now: float) -> str:
    """The refusal for a cache's folder whose files may still be arriving, such as by cp; empty for any other.

    Its manifest is whole, a file is missing or short, and a file was written within the last hour.
    """
    if path.is_symlink():
        return ""
    try:
        catalog.check(path, catalog.read_manifest(path))
    except CacheError as error:
        if now - ownership.written(path) > ownership.RECENT:
            return ""
        file = os.path.relpath(error.path, path)
        return (
            f"holds the manifest of a whole cache but not all of its files ({file}: {error.problem}), and some were written "
            "within the last hour, so it may still be being copied; try again an hour after the last change, or delete the "
            "folder yourself"
        )
    return ""


def _is_proven(path: Path) -> bool:
    """Whether the folder holds a whole manifest of the key that it is called by."""
    try:
        catalog.read_manifest(path)
    except CacheError:
        return False
    return True


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
    longer than `older_than` seconds ago that are not in `keep` (keys); local copies whose cache is gone; and parts of local
    copies that a killed process left. Foreign folders are listed and kept. `now` is a time in seconds since 1970.
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
            unpublished = listing.state in ("incomplete", "local")
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
    if path.name.startswith(TRASH) or age > incomplete_after:
        return f"incomplete, untouched for {age / 3600:.0f} h"
    return "left over; the cache is published" if published else ""


def _kept(listing: Listing, now: float) -> str:
    """Why `prune` does not delete a candidate: it is foreign, holds somebody else's file, or may still be being copied."""
    path = Path(listing.path)
    if listing.state == "foreign":
        return "not a cache of coattail's; delete it yourself if it may go"
    if listing.state == "published":
        return _inhabited(path)
    if listing.state != "damaged":
        return ""
    if ownership.is_recent(path, now):
        return "changed within the last hour, so it may still be being copied"
    return (
        _inhabited(path)
        if _is_proven(path)
        else f"no whole manifest proves that it is a cache; `cache rm {path.name[:12]}` deletes it"
    )


def _torn_copies(stores: Path, yes: bool, now: float) -> list[Candidate]:
    """Files of local copies whose making was cut off, and which were untouched for an hour. Nothing reads them."""
    candidates = []
    for path in sorted((stores / catalog.LOCAL).glob(f"*/.*{durable.TEMPORARY}")):
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
        reason = f"part of a local copy, untouched for {age / 3600:.0f} h"
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
            rm(path, now)
            return ""
        with _unwritten(path):
            trash = to_trash(path, path.parent.parent)
        shutil.rmtree(trash, ignore_errors=True)
    except CacheError as error:
        return str(error)
    return ""


def to_trash(path: Path, stores: Path) -> Path:
    """Move a folder into the staging folder, by one rename, and return where it is then.

    A process that writes to the old place meanwhile finds the whole folder there, or nothing.
    """
    trash = stores / catalog.STAGING / f"{TRASH}{uuid.uuid4().hex}"
    durable.make_folder(trash.parent)
    with durable.storing(path):
        durable.rename(path, trash)
    return trash


def set_aside(path: Path) -> Path | None:
    """Move a damaged cache out of the way of a whole one of its key, and return where it is then.

    None where the folder does not look like a cache. Raises CacheInUse where somebody has the cache open, CacheInvalid where
    it is a cache of another key, and CacheStorage where it may still be being copied.
    """
    if path.is_symlink() or not catalog.is_cache(path):
        return None
    if refusal := _inhabited(path) if _is_proven(path) else "":
        raise CacheStorage(f"{path}: {refusal}")
    if not _is_proven(path):
        if not ownership.is_shaped(path):
            return None
        if not (path / manifest.NAME).exists() and ownership.is_recent(path):
            raise CacheStorage(
                f"{path}: has no manifest and was changed within the last hour, so it may still be being copied; "
                "try again an hour after the last change, or delete it"
            )
        catalog.refuse_other_key(path)
    with in_use.alone(path):
        return to_trash(path, path.parent)


@contextmanager
def _unwritten(work: Path) -> Iterator[None]:
    """Hold a staging folder against every writer. Raises CacheInUse where one has it locked."""
    with all_free(list(work.parent.glob(f"{work.name}*.lock"))) as free:
        if not free:
            raise CacheInUse(f"{work}: being written; wait until the extraction is done, then try again")
        yield
