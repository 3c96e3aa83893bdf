"""Removing caches.

A cache that somebody reads or writes stays, and so does every folder that is not provably a cache's. What is removed leaves
its place by one rename, so that others see all of it or nothing.
"""

import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from cache import catalog, in_use, manifest, ownership
from cache.disk import durable
from cache.errors import CacheError, CacheInvalid, CacheNotFound, CacheStorage


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
    if is_proven(path):
        return foreign_file(path) or _arriving(path, time.time() if now is None else now)
    if not ownership.is_shaped(path):
        return "not provably a cache's folder, so coattail does not delete it; delete it yourself if it may go"
    if ownership.is_recent(path, now):
        return (
            "has no manifest that names it and was changed within the last hour, so it may still be being copied; "
            "try again an hour after the last change"
        )
    return ""


def foreign_file(path: Path) -> str:
    """The refusal for a cache's folder that holds a file of somebody else's; empty where there is none, and for a link."""
    files = [] if path.is_symlink() else ownership.foreign_files(path)
    return f"holds {files[0]}, which belongs to no cache; move it away, then try again" if files else ""


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


def is_proven(path: Path) -> bool:
    """Whether the folder holds a whole manifest of the key that it is called by."""
    try:
        catalog.read_manifest(path)
    except CacheError:
        return False
    return True


def to_trash(path: Path, stores: Path) -> Path:
    """Move a folder into the staging folder, by one rename, and return where it is then.

    A process that writes to the old place meanwhile finds the whole folder there, or nothing.
    """
    trash = stores / catalog.STAGING / f"{ownership.TRASH}{uuid.uuid4().hex}"
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
    if refusal := foreign_file(path) if is_proven(path) else "":
        raise CacheStorage(f"{path}: {refusal}")
    if not is_proven(path):
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
