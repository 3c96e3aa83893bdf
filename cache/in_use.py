"""Locks that keep a published cache from being removed while somebody reads it.

They are flock locks on the file of the manifest. Any number of readers share the lock; whoever removes the cache holds it
alone. A cache in use is not protected where the file system has no locks, and on Windows, which has no flock.
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import CacheInUse, CacheNotFound
from cache.format import layout

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


def hold(path: Path, reader: object) -> None:
    """Hold the cache for reading for as long as the object `reader` lives. Raises CacheNotFound where it is being removed."""
    if fcntl is None:
        return
    file = path / layout.MANIFEST
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise CacheNotFound(f"{path}: no cache there; it was taken away a moment ago") from None
    weakref.finalize(reader, _close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        gone = os.fstat(descriptor).st_nlink == 0 or not os.path.samestat(os.fstat(descriptor), file.stat())
    except BlockingIOError:
        gone = True  # only `rm` holds the lock alone
    except OSError:  # no locks on this file system, or the folder is gone
        gone = not file.exists()
    if gone:
        raise CacheNotFound(f"{path}: no cache there; it is being removed")


def _close(descriptor: int) -> None:
    with suppress(OSError):  # a file that was only read has nothing to lose
        os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the cache against every reader. Raises CacheInUse where there is one, CacheNotFound where the cache is gone."""
    if fcntl is None:
        yield
        return
    try:
        descriptor = os.open(path / layout.MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_dir():
            raise CacheNotFound(f"{path}: no cache there; it was taken away a moment ago") from None
        yield  # no reader can hold a manifest that is missing, or that is a link
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheInUse(f"{path}: in use; wait until whoever reads it is done, then try again") from None
        except OSError:
            pass
        yield
    finally:
        _close(descriptor)
