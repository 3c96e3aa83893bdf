"""The only code that writes a file of a cache or of a run.

A function here returns when the file is on the disk, so that a power cut does not lose it. A process that is killed while it
writes leaves no half file under the file's name. With `sync=False` the function returns earlier: a kill loses nothing, but a
power cut may lose the file until it and its folder are synced.

Files get the mode that the umask leaves, so that the members of one's group can read them.
"""

import errno
import hashlib
import os
import re
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
WRITTEN_AT_ONCE = 1 << 20
"""Bytes that are handed to the system at a time. 6 MB at once took Linux five times the processor time, measured on ext4."""
TEMPORARY = ".tmp"
"""The suffix of a file that is being written."""
_TEMPORARY_NAME = re.compile(rf"\..+\.[0-9a-f]{{32}}{re.escape(TEMPORARY)}", re.DOTALL)
IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an OSError inside into a CacheStorage of one line: the path, the reason and the remedy."""
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
    """Write a file. It appears whole, and replaces one that is there; or it does not appear at all."""
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
    """A file to be written piece by piece. It appears whole when the block ends, and not at all where the block raises."""
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
    """Write a file that must not exist yet. Where it exists it stays as it is, and False is returned."""
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
    """Give a file a second name, by a hard link. Where the file system or the file's owner allows none, copy it."""
    with storing(target):
        try:
            os.link(source, target)
        except OSError:
            replace(target, source.read_bytes())


def append(path: Path, line: str, sync: bool = True) -> None:
    """Add a line to a file. A line that was cut off has no line end."""
    with storing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _write_all(descriptor, line.encode() + b"\n")
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename a file or folder in one step. Raises OSError where the target is a folder that is not empty."""
    os.rename(source, target)
    sync_folder(target.parent)


def appear(sealed: Path, path: Path) -> None:
    """Rename a folder to `path` in one step, after the names in it are synced.

    Raises CacheStorage where something else has that name.
    """
    with storing(path):
        sync_tree(sealed)
        try:
            rename(sealed, path)
        except OSError as error:
            if error.errno in IN_THE_WAY and path.exists():
                remedy = f"remove it with `cache rm {path.name[:12]}`" if path.is_dir() else "delete it"
                raise CacheStorage(
                    f"{path}: something that is no cache has this name; {remedy}, then run the same command again"
                ) from None
            raise


def make_folder(path: Path, sync: bool = True) -> None:
    """Make a folder, and those above it that are missing. The name of each is synced."""
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
    """Delete a folder. What cannot be deleted stays, and `prune` offers it later."""
    shutil.rmtree(path, ignore_errors=True)


def sync_folder(path: Path) -> None:
    """Sync the names in a folder: files that were made or renamed there are found after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Sync the bytes of a file. Its name is only safe once its folder is synced too."""
    with storing(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Sync the names in a folder and in all folders below it, the innermost first."""
    for folder, _, _ in os.walk(path, topdown=False):
        sync_folder(Path(folder))


def sha256(path: Path) -> str:
    """The sha256 of a file, 64 hex digits."""
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
    # A random number, and not that of the process: two machines that share a folder may have processes of equal numbers.
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")


def is_temporary(path: Path) -> bool:
    """Whether a file is called as those are that a function here is writing; left alone, one is of a killed process."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def _unlink(path: Path) -> None:
    with suppress(OSError):
        os.unlink(path)


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view[:WRITTEN_AT_ONCE]) :]
