"""The only code that writes a cache's files. What it returns from is on the disk; what it is killed in leaves no half file.

Files get the modes that the umask leaves, so that a team-mate can read them.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import CacheStorage

REMEDIES = {
    errno.ENOSPC: "free space or inodes",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: "make the folder writable, or set COATTAIL_STORES to one that is",
    errno.EPERM: "make the folder writable, or set COATTAIL_STORES to one that is",
    errno.EROFS: "set COATTAIL_STORES to a folder that is writable",
    errno.ENOTDIR: "set COATTAIL_STORES to a folder",
    errno.EEXIST: "set COATTAIL_STORES to a folder",
}
TEMPORARY = ".tmp"


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """An OSError inside becomes one line that names the path, the reason and the remedy."""
    try:
        yield
    except CacheStorage:
        raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "look at the disk")
        raise CacheStorage(
            error.errno,
            f"{path}: cannot be written ({error.strerror or error}); {remedy}, then run the same command again",
        ) from error


def replace(path: Path, content: bytes) -> None:
    """The file appears whole, in place of one that may be there, or not at all."""
    with storing(path):
        temporary = _temporary(path, content)
        os.replace(temporary, path)
        sync_folder(path.parent)


def create(path: Path, content: bytes) -> bool:
    """The file appears whole; False, and nothing is touched, where there is one."""
    with storing(path):
        temporary = _temporary(path, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            os.replace(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
        sync_folder(path.parent)
        return True


def append(path: Path, line: str) -> None:
    """The line is on the disk; a torn one has no line end."""
    with storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _write_all(descriptor, line.encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """One step; raises OSError where the target is a folder that is not empty."""
    os.rename(source, target)
    sync_folder(target.parent)


def make_folder(path: Path) -> None:
    """The folder and those above it."""
    with storing(path):
        os.makedirs(path, exist_ok=True)


def sync_folder(path: Path) -> None:
    """Names made or changed in the folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Every folder's names are on the disk, the innermost first."""
    for folder, _, _ in os.walk(path, topdown=False):
        sync_folder(Path(folder))


def sha256(path: Path) -> str:
    """sha256, hex, of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        _write_all(descriptor, content)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    return temporary


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
