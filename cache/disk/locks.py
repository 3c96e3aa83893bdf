"""Locks that keep two processes from doing the same work twice.

No cache depends on them: two writers of one key write equal bytes, and the rename of one wins. Where the file system has no
locks, or the file of a lock cannot be opened, everybody goes on without. The lock of a killed process is released.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock. Where another process holds it, `waiting` is called and this one waits."""
    descriptor = _open(path)
    try:
        if not _take(descriptor, wait=False):
            waiting()
            _take(descriptor, wait=True)
        yield
    finally:
        _close(descriptor)


@contextmanager
def all_free(paths: list[Path]) -> Iterator[bool]:
    """Try to hold several locks. Yields whether all were free; none can be taken by others meanwhile."""
    descriptors = [_open(path) for path in paths]
    try:
        yield all(_take(descriptor, wait=False) for descriptor in descriptors)
    finally:
        for descriptor in descriptors:
            _close(descriptor)


def _open(path: Path) -> int | None:
    if fcntl is None:
        return None
    # The file may belong to somebody else and be read-only; that is enough for a lock.
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):
        try:
            return os.open(path, flags, 0o666)
        except OSError:
            continue
    return None


def _take(descriptor: int | None, wait: bool) -> bool:
    if descriptor is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child process that was forked meanwhile has the file open too
        os.close(descriptor)
