"""The only code that writes a file of a cache or a run. What it returns from is on the disk; a kill leaves no half file.

With `sync=False` it is not on the disk yet: a kill loses nothing, a power cut may, until the file and its folder are synced.

Files get the modes that the umask leaves, so that a team-mate can read them.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cache.errors import CacheError, CacheStorage

FOLDERS = "COATTAIL_STORES or COATTAIL_RUNS"
REMEDIES = {
    errno.ENOSPC: "free space or inodes",
    errno.EDQUOT: "free some of your quota",
    errno.EACCES: f"make the folder writable, or set {FOLDERS} to one that is",
    errno.EPERM: f"make the folder writable, or set {FOLDERS} to one that is",
    errno.EROFS: f"set {FOLDERS} to a folder that is writable",
    errno.ENOTDIR: f"set {FOLDERS} to a folder",
    errno.EEXIST: f"set {FOLDERS} to a folder",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
}
TEMPORARY = ".tmp"
IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """An OSError inside becomes one line that names the path, the reason and the remedy."""
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "look at the disk")
        raise CacheStorage(
            error.errno,
            f"{path}: cannot be written ({error.strerror or error}); {remedy}, then run the same command again",
        ) from error


def replace(path: Path, content: bytes, sync: bool = True) -> None:
    """The file appears whole, in place of one that may be there, or not at all."""
    with storing(path):
        temporary = _temporary(path, content, sync)
        try:
            os.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
        if sync:
            sync_folder(path.parent)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to be written piece by piece: it appears whole where the block ends, and not at all where it raises."""
    temporary = _beside(path)
    with storing(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            _unlink(temporary)
            raise
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
            _unlink(temporary)
        sync_folder(path.parent)
        return True


def link(source: Path, target: Path) -> None:
    """The source's file under a second name; a copy where the file system, or the file's owner, allows no hard link."""
    with storing(target):
        try:
            os.link(source, target)
        except OSError:
            replace(target, source.read_bytes())


def append(path: Path, line: str, sync: bool = True) -> None:
    """The line is on the disk; a torn one has no line end."""
    with storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _write_all(descriptor, line.encode() + b"\n")
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """One step; raises OSError where the target is a folder that is not empty."""
    os.rename(source, target)
    sync_folder(target.parent)


def appear(sealed: Path, path: Path) -> None:
    """The folder, with all that is in it, is at `path` in one step; CacheStorage where something is in the way."""
    with storing(path):
        sync_tree(sealed)
        try:
            rename(sealed, path)
        except OSError as error:
            if error.errno in IN_THE_WAY and path.exists():
                remedy = f"remove it with `cache rm {path.name[:12]}`" if path.is_dir() else "delete it"
                raise CacheStorage(
                    f"{path}: something that is no cache is in the way; {remedy}, then run the same command again"
                ) from None
            raise


def make_folder(path: Path, sync: bool = True) -> None:
    """The folder and those above it; the name of each is on the disk."""
    with storing(path):
        missing = []
        while not path.is_dir():
            missing.append(path)
            path = path.parent
        for folder in reversed(missing):
            try:
                os.mkdir(folder)
            except FileExistsError:
                if not folder.is_dir():
                    raise
            if sync:
                sync_folder(folder.parent)


def remove_tree(path: Path) -> None:
    """The folder goes, as far as it can: what stays is for `prune`."""
    shutil.rmtree(path, ignore_errors=True)


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


def sync_file(path: Path) -> None:
    """The file's bytes are on the disk; its name is once its folder is synced."""
    with storing(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
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


def _temporary(path: Path, content: bytes, sync: bool = True) -> Path:
    temporary = _beside(path)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            _write_all(descriptor, content)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _unlink(temporary)
        raise
    return temporary


def _beside(path: Path) -> Path:
    # Not the process's number: two machines that share a folder have equal ones.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")


def _unlink(path: Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
