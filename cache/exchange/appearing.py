"""Writing a file or folder under a hidden name, which gets its own name once it is whole. It never replaces anything."""

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.disk import durable
from cache.errors import CacheStorage

IN_THE_WAY = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
UNIQUE = re.compile("[0-9a-f]+")
"""The part of a hidden name between the destination's name and the suffix."""


@contextmanager
def appearing(destination: Path, folder: bool) -> Iterator[Path]:
    """A file or folder of a hidden name beside the destination, to write to. It is renamed when the block ends.

    Hidden files that killed exports to the same destination left are deleted first. Raises CacheStorage where the
    destination exists, at the start or at the end, and where the disk cannot be written. Then nothing is left.
    """
    if os.path.lexists(destination):
        raise _taken(destination)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(destination)
        temporary, descriptor = _begin(destination, folder)
    except OSError as error:
        raise _unwritable(destination, error) from error
    try:
        yield temporary
        for file in (temporary, *temporary.rglob("*")):
            durable.sync_folder(file)
        _publish(temporary, destination)
    except OSError as error:
        if isinstance(error, CacheStorage):
            raise
        raise _unwritable(destination, error) from error
    finally:
        _remove(temporary)
        os.close(descriptor)


def _begin(destination: Path, folder: bool) -> tuple[Path, int]:
    """A new hidden file or folder, and a descriptor whose lock shows others that the process is still writing to it."""
    while True:
        temporary = destination.with_name(f".{destination.name}.{uuid.uuid4().hex}{durable.TEMPORARY}")
        if folder:
            temporary.mkdir()
        else:
            temporary.touch(exist_ok=False)
        descriptor = os.open(temporary, os.O_RDONLY)
        # Before it was locked, another export may have deleted it as left by a killed process.
        if _lock(descriptor) and temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock. False where another process holds it; true where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def _remove_abandoned(destination: Path) -> None:
    """Delete the hidden files beside the destination that no living process has locked."""
    prefix, suffix = f".{destination.name}.", durable.TEMPORARY
    for path in destination.parent.iterdir():
        middle = path.name.removeprefix(prefix).removesuffix(suffix)
        if path.name != prefix + middle + suffix or not UNIQUE.fullmatch(middle) or path.is_symlink():
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
            finally:
                os.close(descriptor)


def _publish(temporary: Path, destination: Path) -> None:
    """Rename to the destination. Raises CacheStorage where something has that name meanwhile."""
    try:
        if temporary.is_dir():
            os.rename(temporary, destination)  # fails where a folder with files in it is there
        else:
            _link(temporary, destination)
    except OSError as error:
        if error.errno in IN_THE_WAY:
            raise _taken(destination) from None
        raise
    durable.sync_folder(destination.parent)


def _link(temporary: Path, destination: Path) -> None:
    try:
        os.link(temporary, destination)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        os.close(os.open(destination, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(temporary, destination)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _taken(destination: Path) -> CacheStorage:
    return CacheStorage(f"{destination}: is there already and is not replaced; remove it, or export to another name")


def _unwritable(destination: Path, error: OSError) -> CacheStorage:
    return CacheStorage(f"{destination}: cannot be written ({error.strerror or error}); nothing is left of it")
