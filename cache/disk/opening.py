"""Opening a file inside a cache: no link is followed at any level, no pipe is waited for, no more is read than it may hold."""

import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from cache.errors import CacheCorrupt, CacheError, CacheInvalid

if TYPE_CHECKING:
    from cache.manifest import Entry

BLOCK = 1 << 20
"""Bytes read at a time."""
AGAIN = "`cache rm` it, then pull or extract it again"
"""A damaged cache counts as published until it is gone: extracting it again would do nothing."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_FILE = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check(root: Path, sizes: Iterable[tuple[str, int]]) -> None:
    """Each file under `root` is a plain one of its size, and no link is on the way; nothing is opened.

    Raises CacheCorrupt for a missing file or another size, CacheInvalid for a link or anything that is no plain file.
    """
    known: set[str] = set()
    for file, size in sizes:
        found = _look(root, file, known)
        if found != size:
            raise CacheCorrupt(f"{root / file}: wanted {size} bytes, found {found}; {AGAIN}")


def opened(root: Path, file: str) -> BinaryIO:
    """The plain file at `file` under `root`, for reading. Only `root` itself may be reached through a link.

    Every folder is opened inside the one before: a link put there after `check` is not followed either. Raises as it does.
    """
    try:
        descriptor = _descend(root, file)
    except OSError as error:
        raise _refusal(root, file, error) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refusal(root, file, OSError("not a plain file"))
    return os.fdopen(descriptor, "rb")


def read(root: Path, file: str, limit: int) -> bytes:
    """The file's bytes. CacheInvalid where there are more than `limit`; none is read then."""
    with opened(root, file) as source:
        size, content = os.fstat(source.fileno()).st_size, b""
        try:
            if size <= limit:
                content = source.read(size + 1)
        except OSError as error:
            raise _refusal(root, file, error) from None
        size = max(size, len(content))  # it may have grown
    if size > limit:
        raise CacheInvalid(f"{root / file}: {size} bytes, at most {limit} wanted; not a cache of ours")
    return content


def difference(root: Path, entry: "Entry") -> str:
    """In what a file under `root` differs from its entry in the manifest, every byte read; empty where in nothing."""
    digest, size = hashlib.sha256(), 0
    try:
        with opened(root, entry.file) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except CacheError as error:
        return str(error).split(": ", 1)[-1]
    if size != entry.size:
        return f"wanted {entry.size} bytes, found {size}"
    return "" if digest.hexdigest() == entry.sha256 else "its sha256 is not the manifest's"


def _descend(root: Path, file: str) -> int:
    *folders, name = file.split("/")
    if os.open not in os.supports_dir_fd:  # Windows: a link put there after the check is followed
        _look(root, file, set())
        return os.open(root / file, _FILE)
    here = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER | _NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        return os.open(name, _FILE, dir_fd=here)
    finally:
        os.close(here)


def _look(root: Path, file: str, known: set[str]) -> int:
    """Bytes of the plain file; every name on the way is looked at, not through, unless it is a folder `known` from before."""
    path = os.fspath(root)
    for part in file.split("/"):
        path = f"{path}/{part}"
        if path in known:
            continue
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise CacheCorrupt(f"{root / file}: missing; {AGAIN}") from None
        if stat.S_ISLNK(found.st_mode):
            raise CacheInvalid(f"{path}: a symbolic link; a cache holds plain files")
        if stat.S_ISDIR(found.st_mode):
            known.add(path)
    if path in known:
        raise CacheCorrupt(f"{path}: missing, a folder is in its place; {AGAIN}")
    if not stat.S_ISREG(found.st_mode):
        raise CacheInvalid(f"{path}: not a plain file; a cache holds plain files")
    return found.st_size


def _refusal(root: Path, file: str, error: OSError) -> CacheError:
    try:
        _look(root, file, set())
    except CacheError as found:
        return found
    except OSError:
        pass
    return CacheCorrupt(f"{root / file}: cannot be read ({error.strerror or error}); {AGAIN}")
