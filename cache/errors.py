"""What can be wrong with a cache, one line each: what, wanted, found, where, remedy."""


class CacheError(Exception):
    """Base of every error of this package."""


class CacheNotFound(CacheError, FileNotFoundError):
    """No cache where one was named."""


class CacheCorrupt(CacheError, ValueError):
    """A cache whose files are not what its manifest says."""


class CacheInvalid(CacheError, ValueError):
    """Rows, features or descriptions that must not enter a cache, or a file that is no cache of ours."""


class PlaceInvalid(CacheInvalid):
    """Text that cannot name a place of caches. `cli.py` exits with 2."""


class CacheInUse(CacheError, RuntimeError):
    """A cache that somebody reads or writes and that is therefore not taken away."""


class CacheStorage(CacheError, OSError):
    """A disk, folder or object store that does not take or give what it should."""

    def __str__(self) -> str:
        return str(self.args[-1])  # OSError would put "[Errno 28]" before it


class CacheUnlisted(CacheStorage):
    """A list of a bucket that its client does not give, because of an object's `name` that it cannot read."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name

    def __str__(self) -> str:
        return str(self.args[0])


class CacheDropped(CacheStorage):
    """An object store that did not answer, or broke off; another attempt may succeed."""


class CacheSilent(CacheDropped):
    """An object store that took the connection, or did not, and said nothing for so long that nobody waits again."""
