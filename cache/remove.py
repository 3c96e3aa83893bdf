"""Taking caches away: never from under a reader or a writer, never a stranger's folder, and in one step for everybody else."""

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
from cache.disk.opening import AGAIN
from cache.errors import CacheError, CacheInUse, CacheInvalid, CacheNotFound, CacheStorage

TRASH = "trash-"


@dataclass(frozen=True)
class Candidate:
    """Something that `prune` would delete, or, with `kept`, the reason why it does not."""

    path: str
    key: str
    bytes: int
    reason: str
    kept: str = ""


@dataclass(frozen=True)
class Removal:
    """What `rm` took away: the bytes that are free now and, where a link alone went, the folder that it led to."""

    bytes: int
    led_to: str = ""


def rm(path: Path, now: float | None = None) -> Removal:
    """Delete a published cache and its local copy. Of a link to a cache, only the link is removed.

    Raises CacheInUse where somebody has the cache open, and CacheNotFound where there is none. Raises CacheInvalid where
    nothing proves that the folder is a cache's, where a stranger keeps a file in it, and where it has no whole manifest and
    was changed within the last hour.
    """
    path = Path(path)
    if path.name in ("", ".."):
        path = path.resolve()
    if not catalog.is_cache(path):
        raise CacheNotFound(f"{path}: no cache there; `cache ls` lists those there are")
    found = catalog.describe(path)
    if refusal := _refusal(path, now):
        raise CacheInvalid(f"{path}: {refusal}")
    if path.is_symlink():
        led_to = str(path.resolve())
        with durable.storing(path):
            os.unlink(path)
        return Removal(0, led_to)
    with in_use.alone(path):
        trash = to_trash(path, path.parent)
    local = path.parent / catalog.LOCAL / found.key
    freed = found.bytes + sum(file.stat().st_size for file in local.glob("*"))
    for folder in (trash, local):  # whoever has the copy mapped keeps it
        shutil.rmtree(folder, ignore_errors=True)
    return Removal(freed)


def _refusal(path: Path, now: float | None) -> str:
    """Why a folder that somebody named is not deleted; empty where it may be."""
    if _is_proven(path):
        return _inhabited(path) or _arriving(path, time.time() if now is None else now)
    if not ownership.is_shaped(path):
        return "not a cache's folder, or not provably one; coattail leaves it alone, delete it yourself if it may go"
    if ownership.is_recent(path, now):
        return (
            "has no manifest that names it and was changed within the last hour, so it may still be being copied; "
            "try again an hour after the last change"
        )
    return ""


def _inhabited(path: Path) -> str:
    """The refusal for a cache's folder in which a stranger keeps a file; empty where nobody does. A link is only unlinked."""
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
        problem = str(error).removeprefix(f"{path}/").removesuffix(f"; {AGAIN}")
        return (
            f"holds the manifest of a whole cache but not all of its files ({problem}), and some were written within the "
            "last hour, so it may still be being copied; try again an hour after the last change, or delete the folder "
            "yourself"
        )
    return ""


def _is_proven(path: Path) -> bool:
    """Whether a manifest of ours, which parses whole and has the folder's key, is there."""
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
    """List what may go and, with `yes`, delete it. What is in use, or not provably coattail's, is listed as `kept`.

    That is: what is damaged; what is half extracted and untouched for `incomplete_after` seconds; what was published longer
    than `older_than` seconds ago and is not in `keep` (keys); local copies whose cache went; and what a killed process left
    of a local copy. Foreign folders are listed and kept.
    """
    now = time.time() if now is None else now
    spared = set(keep)
    found = []
    for one in catalog.ls(stores):
        reason = _reason(one, stores, older_than, spared, incomplete_after, now)
        if not reason:
            continue
        path, kept = Path(one.path), _kept(one, now)
        if path.is_symlink():
            reason += "; a link, what it leads to stays"
        if not kept:
            unpublished = one.state in ("incomplete", "local")
            kept = _delete(path, unpublished, now) if yes else _used(path, unpublished)
        found.append(Candidate(one.path, one.key, one.bytes, reason, kept))
    return [*found, *_torn_copies(stores, yes, now)]


def _reason(
    one: Listing, stores: Path, older_than: float | None, spared: set[str], incomplete_after: float, now: float
) -> str:
    """Why this may go; empty where it stays."""
    if one.state in ("damaged", "foreign"):
        return one.state
    path = Path(one.path)
    age = now - (one.modified if one.state == "published" else ownership.changed(path))
    if one.state == "published":
        gone_by = older_than is not None and age > older_than and one.key not in spared
        return f"published {age / 86_400:.0f} days ago" if gone_by else ""
    published = catalog.published(stores, one.key) is not None
    if one.state == "local":
        return "local copy of a cache that is not here" if age > incomplete_after and not published else ""
    if path.name.startswith(TRASH) or age > incomplete_after:
        return f"incomplete, untouched for {age / 3600:.0f} h"
    return "left over; the cache is published" if published else ""


def _kept(one: Listing, now: float) -> str:
    """Why `prune` leaves a folder alone that is damaged or foreign, or that holds a stranger's file."""
    path = Path(one.path)
    if one.state == "foreign":
        return "not a cache of coattail's; delete it yourself if it may go"
    if one.state == "published":
        return _inhabited(path)
    if one.state != "damaged":
        return ""
    if ownership.is_recent(path, now):
        return "changed within the last hour, it may still be being copied"
    return (
        _inhabited(path)
        if _is_proven(path)
        else f"no whole manifest proves that it is a cache; `cache rm {path.name[:12]}` deletes it"
    )


def _torn_copies(stores: Path, yes: bool, now: float) -> list[Candidate]:
    """Files of local copies that were cut off while they were made, untouched for an hour: nothing reads them."""
    found = []
    for path in sorted((stores / catalog.LOCAL).glob(f"*/.*{durable.TEMPORARY}")):
        age = now - ownership.changed(path)
        if age <= ownership.RECENT:
            continue
        kept = ""
        try:
            size = path.stat().st_size
            if yes:
                path.unlink()
        except FileNotFoundError:  # whoever made it may have come to its end
            continue
        except OSError as error:
            kept = f"cannot be deleted ({error.strerror})"
        reason = f"part of a local copy, untouched for {age / 3600:.0f} h"
        found.append(Candidate(str(path), path.parent.name, size, reason, kept))
    return found


def _used(path: Path, unpublished: bool) -> str:
    try:
        with _unwritten(path) if unpublished else in_use.alone(path):
            return ""
    except CacheInUse as error:
        return str(error)


def _delete(path: Path, unpublished: bool, now: float) -> str:
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
    """Move a folder to the staging folder, in one step: whoever begins to write there meanwhile finds all of it, or nothing."""
    trash = stores / catalog.STAGING / f"{TRASH}{uuid.uuid4().hex}"
    durable.make_folder(trash.parent)
    with durable.storing(path):
        durable.rename(path, trash)
    return trash


def set_aside(path: Path) -> Path | None:
    """Move what is left of a damaged cache out of the way of a whole one of its key: where it is then.

    None where nothing that looks like a cache's is there. Raises CacheInUse where somebody has it open, CacheInvalid where
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
    """A staging folder that no writer, alone or one of several, has locked."""
    with all_free(list(work.parent.glob(f"{work.name}*.lock"))) as free:
        if not free:
            raise CacheInUse(f"{work}: being written; wait until the extraction is done, then try again")
        yield
