"""The errors of this package. The text of each is one line: what, where, wanted, found, remedy."""

from os import PathLike, fspath
from typing import Self


class CacheError(Exception):
    """Base of every error of this package."""

    path = problem = ""
    """The file that the error is about, and what is wrong with it. Both are empty for errors that `about` did not make."""

    @classmethod
    def about(cls, path: str | PathLike[str], problem: str, remedy: str) -> Self:
        """An error about one file."""
        error = cls(f"{fspath(path)}: {problem}; {remedy}")
        error.path, error.problem = fspath(path), problem
        return error


class CacheNotFound(CacheError, FileNotFoundError):
    """No cache where one was named."""


class CacheCorrupt(CacheError, ValueError):
    """A cache whose files are not what its manifest says."""


class CacheInvalid(CacheError, ValueError):
    """Rows, features or descriptions that must not enter a cache, or a file that coattail did not write."""


class PlaceInvalid(CacheInvalid):
    """Text that names neither a folder nor a bucket of caches. The command exits with 2."""


class CacheInUse(CacheError, RuntimeError):
    """A cache that is not removed because somebody reads or writes it."""


class CacheStorage(CacheError, OSError):
    """A disk, a folder or an object store that cannot be written or read."""

    def __str__(self) -> str:
        return str(self.args[-1])  # OSError would put "[Errno 28]" before it


class CacheUnlisted(CacheStorage):
    """A bucket that the client cannot list, because it cannot read the `name` of an object there."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class CacheDropped(CacheStorage):
    """An object store whose answer is missing or ends early. Another attempt may succeed."""


class CacheSilent(CacheDropped):
    """An object store that sent nothing for so long that no other attempt is made."""
