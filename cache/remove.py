"""Taking caches away: never from under a reader or a writer, and in one step for everybody else."""

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cache import catalog, in_use
from cache.disk import durable
from cache.disk.locks import all_free
from cache.errors import CacheInUse, CacheNotFound, CacheStorage

TRASH = "trash-"


@dataclass(frozen=True)
class Candidate:
    """Something that `prune` would delete, or, with `kept`, the reason why it does not."""

    path: str
    key: str
    bytes: int
    reason: str
    kept: str = ""


def rm(path: Path) -> int:
    """Delete a published cache and its local copy; the bytes they took.

    CacheInUse where somebody has it open, CacheNotFound where there is none.
    """
    path = Path(path)
    if not catalog.is_cache(path):
        raise CacheNotFound(f"{path}: no cache there; `cache ls` lists those there are")
    found = catalog.describe(path)
    with in_use.alone(path):
        trash = _to_trash(path, path.parent)
    local = path.parent / catalog.LOCAL / found.key
    freed = found.bytes + sum(file.stat().st_size for file in local.glob("*"))
    for folder in (trash, local):  # whoever has the copy mapped keeps it
        shutil.rmtree(folder, ignore_errors=True)
    return freed


def prune(
    stores: Path,
    older_than: float | None = None,
    keep: Iterable[str] = (),
    incomplete_after: float = 86_400.0,
    yes: bool = False,
    now: float | None = None,
) -> list[Candidate]:
    """What is damaged, half extracted and untouched for `incomplete_after` seconds, or published longer than `older_than`
    seconds ago and not in `keep` (keys); local copies whose cache went are as what is half extracted.

    Lists it; with `yes`, deletes it, but nothing that is in use: that is `kept`.
    """
    now = time.time() if now is None else now
    spared = set(keep)
    found = []
    for one in catalog.ls(stores):
        age = now - _touched(Path(one.path), one.state, one.modified)
        if one.state == "damaged":
            reason = "damaged"
        elif one.state == "incomplete" and (Path(one.path).name.startswith(TRASH) or age > incomplete_after):
            reason = f"incomplete, untouched for {age / 3600:.0f} h"
        elif one.state == "incomplete" and catalog.published(stores, one.key):
            reason = "left over; the cache is published"
        elif one.state == "published" and older_than is not None and age > older_than and one.key not in spared:
            reason = f"published {age / 86_400:.0f} days ago"
        elif one.state == "local" and age > incomplete_after and catalog.published(stores, one.key) is None:
            reason = "local copy of a cache that is not here"
        else:
            continue
        unpublished = one.state in ("incomplete", "local")
        kept = _delete(Path(one.path), unpublished) if yes else _used(Path(one.path), unpublished)
        found.append(Candidate(one.path, one.key, one.bytes, reason, kept))
    return found


def _touched(path: Path, state: str, modified: float) -> float:
    if state != "incomplete":
        return modified
    times = [modified]
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                times.append((Path(folder) / name).lstat().st_mtime)
            except FileNotFoundError:
                continue
    return max(times)


def _used(path: Path, unpublished: bool) -> str:
    try:
        with _unwritten(path) if unpublished else in_use.alone(path):
            return ""
    except CacheInUse as error:
        return str(error)


def _delete(path: Path, unpublished: bool) -> str:
    try:
        if not unpublished:
            rm(path)
            return ""
        with _unwritten(path):
            trash = _to_trash(path, path.parent.parent)
        shutil.rmtree(trash, ignore_errors=True)
    except (CacheInUse, CacheNotFound, CacheStorage) as error:
        return str(error)
    return ""


def _to_trash(path: Path, stores: Path) -> Path:
    """In one step: whoever begins to write there meanwhile finds all of it, or nothing."""
    trash = stores / catalog.STAGING / f"{TRASH}{uuid.uuid4().hex}"
    durable.make_folder(trash.parent)
    with durable.storing(path):
        durable.rename(path, trash)
    return trash


@contextmanager
def _unwritten(work: Path) -> Iterator[None]:
    """A staging folder that no writer, alone or one of several, has locked."""
    with all_free(list(work.parent.glob(f"{work.name}*.lock"))) as free:
        if not free:
            raise CacheInUse(f"{work}: being written; wait until the extraction is done, then try again")
        yield
