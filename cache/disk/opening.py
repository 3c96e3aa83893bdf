"""Opening a file inside a cache that anybody may have made.

No link is followed, in the file's name or in that of a folder above it. A pipe or a device is refused, so that nobody waits
for it. No more bytes are read than the file may have.
"""

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
"""Bytes that are read at a time."""
AGAIN = "`cache rm` it, then pull, extract or import it again"
"""The remedy for a damaged cache. It must be removed first: as long as it is there, `extract` finds its work done."""
FOREIGN = "coattail did not write it"
"""What an error says of a file that no version of coattail writes."""
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_FILE = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def check(root: Path, sizes: Iterable[tuple[str, int]]) -> None:
    """Check that each file under `root` is there with its size, and that it is reached without a link. No file is opened.

    Raises CacheCorrupt for a file that is missing or has another size, CacheInvalid for a link, a pipe or a device.
    """
    folders: set[str] = set()
    for file, wanted in sizes:
        size = _size(root, file, folders)
        if size != wanted:
            raise _corrupt(root / file, f"wanted {wanted} bytes, found {size}")


def opened(root: Path, file: str) -> BinaryIO:
    """The plain file at `file` under `root`, opened for reading. Only `root` itself may be reached through a link.

    Each folder is opened inside the one above it, so that a link which was put there after `check` is not followed either.
    Raises the errors of `check`.
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
    """The bytes of a file. Raises CacheInvalid where there are more than `limit`; then none is read."""
    with opened(root, file) as source:
        size, content = os.fstat(source.fileno()).st_size, b""
        try:
            if size <= limit:
                content = source.read(size + 1)
        except OSError as error:
            raise _refusal(root, file, error) from None
        size = max(size, len(content))  # the file may have grown meanwhile
    if size > limit:
        raise CacheInvalid(f"{root / file}: wanted at most {limit} bytes, found {size}; {FOREIGN}")
    return content


def difference(root: Path, entry: "Entry") -> str:
    """How a file under `root` differs from its entry in the manifest, all bytes compared; empty where it does not differ."""
    digest, size = hashlib.sha256(), 0
    try:
        with opened(root, entry.file) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except CacheError as error:
        return error.problem
    if size != entry.size:
        return f"wanted {entry.size} bytes, found {size}"
    return "" if digest.hexdigest() == entry.sha256 else "its sha256 is not the manifest's"


def _descend(root: Path, file: str) -> int:
    *folders, name = file.split("/")
    if os.open not in os.supports_dir_fd:  # Windows: a link put there after the check is followed
        _size(root, file, set())
        return os.open(root / file, _FILE)
    descriptor = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER | _NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        return os.open(name, _FILE, dir_fd=descriptor)
    finally:
        os.close(descriptor)


def _size(root: Path, file: str, folders: set[str]) -> int:
    """The size in bytes of a plain file under `root`; no link is followed.

    `folders` collects the folders that were looked at, so that the next call need not do so again.
    """
    path = os.fspath(root)
    for part in file.split("/"):
        path = f"{path}/{part}"
        if path in folders:
            continue
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _corrupt(root / file, "missing") from None
        if stat.S_ISLNK(status.st_mode):
            raise CacheInvalid.about(path, "a symbolic link", "a cache holds plain files")
        if stat.S_ISDIR(status.st_mode):
            folders.add(path)
    if path in folders:
        raise _corrupt(path, "missing, a folder is in its place")
    if not stat.S_ISREG(status.st_mode):
        raise CacheInvalid.about(path, "not a plain file", "a cache holds plain files")
    return status.st_size


def _corrupt(path: str | Path, problem: str) -> CacheError:
    return CacheCorrupt.about(path, problem, AGAIN)


def _refusal(root: Path, file: str, error: OSError) -> CacheError:
    """The error for a file that cannot be opened or read: that of `check` if it has one, else the system's reason."""
    try:
        _size(root, file, set())
    except CacheError as reason:
        return reason
    except OSError:
        pass
    return _corrupt(root / file, f"cannot be read ({error.strerror or error})")
