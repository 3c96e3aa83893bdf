"""Locks that save work, and nothing else: two writers of one key write equal bytes, and one rename wins.

Where a file system has no locks, or a lock's file cannot be had, everybody goes on without. A killed process leaves
none behind.
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
    """The lock, once nobody else has it; `waiting` is called where somebody has."""
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
    """Whether nobody has one of these locks; nobody gets one meanwhile."""
    descriptors = [_open(path) for path in paths]
    try:
        yield all(_take(descriptor, wait=False) for descriptor in descriptors)
    finally:
        for descriptor in descriptors:
            _close(descriptor)


def _open(path: Path) -> int | None:
    if fcntl is None:
        return None
    # A team-mate's file may not be ours to write; to be locked it need only be read.
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
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child that was forked meanwhile has the file open too
        os.close(descriptor)
