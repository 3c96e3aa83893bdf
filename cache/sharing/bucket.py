"""A bucket of an object store, reached through the library obstore. Each of its errors becomes a line of our own."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import obstore
from obstore import exceptions

from cache.disk.opening import FOREIGN
from cache.errors import (
    CacheCorrupt,
    CacheDropped,
    CacheError,
    CacheInvalid,
    CacheNotFound,
    CacheSilent,
    CacheStorage,
    CacheUnlisted,
)
from cache.format.layout import KEY
from cache.manifest import Manifest
from cache.sharing.schemes import SCHEMES, SILENCE

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Answer = TypeVar("Answer")
PIECE = 8 << 20
"""Bytes of each part of a large upload."""
BLOCK = 1 << 20
"""Bytes of each block of a download, at least."""
LISTED = 1 << 20
"""The most objects of one cache that are listed."""
BROKEN = 2
"""How often a list or a small object is asked for again when the answer breaks off."""


@dataclass(frozen=True)
class Bucket:
    """A folder of caches in an object store. `prefix` is the folder's path in the bucket; it is empty or ends with a slash."""

    url: str
    scheme: str
    prefix: str
    store: "ObjectStore"
    """The client for reading, which gives up early where the store is silent."""
    writing: "ObjectStore"
    """The client for writing."""

    def names(self, passed_over: Callable[[CacheUnlisted], None] = lambda error: None) -> list[str]:
        """The names of folders that may be caches. Those without a manifest are none.

        The client gives no list that has a name which it cannot read, such as one with a control character. Keys begin
        with a digit or a letter from a to f. Such a name before them is passed over, and goes to `passed_over`. One among
        them, or after them, raises CacheUnlisted.
        """

        def listed() -> list[str]:
            folders = obstore.list_with_delimiter(self.store, self.prefix.rstrip("/") or None)["common_prefixes"]
            return [path.rstrip("/").rpartition("/")[2] for path in folders]

        try:
            names = self._again(listed, "")
        except CacheUnlisted as error:
            try:
                names = self._again(self._names_from_the_first_key, "")
            except CacheUnlisted:
                raise error from None
            passed_over(error)
        return sorted(name for name in names if KEY.fullmatch(name))

    def _names_from_the_first_key(self) -> list[str]:
        """The names of folders from "0" on; of each folder only its first objects are listed."""
        names: list[str] = []
        offset = f"{self.prefix}0"
        while batch := next(iter(obstore.list(self.store, self.prefix.rstrip("/") or None, offset=offset)), None):
            names += {entry["path"].removeprefix(self.prefix).partition("/")[0] for entry in batch}
            offset = f"{self.prefix}{max(names)}0"  # in the order of text, 0 follows the slash
        return names

    def home(self, manifest: Manifest) -> str:
        """The folder of a cache's files, without the manifest."""
        return f"{manifest.key}/{manifest.checksum}"

    def sizes(self, home: str) -> dict[str, int]:
        """The size in bytes of every object below the folder `home`, by its name there."""
        base = f"{self.prefix}{home}/"

        def listed() -> dict[str, int]:
            sizes: dict[str, int] = {}
            for batch in obstore.list(self.store, base.rstrip("/")):
                sizes |= {entry["path"].removeprefix(base): entry["size"] for entry in batch}
                if len(sizes) > LISTED:
                    raise CacheInvalid(f"{self.url}/{home}: wanted at most {LISTED} objects, found more; {FOREIGN}")
            return sizes

        return self._again(listed, home)

    def read(self, name: str, limit: int) -> tuple[bytes, float]:
        """The bytes of an object, and when it was written, in seconds since 1970. CacheInvalid for more than `limit` bytes."""

        def whole() -> tuple[bytes, float]:
            answer = obstore.get(self.store, self.prefix + name)
            if answer.meta["size"] > limit:
                raise CacheInvalid(f"{self.url}/{name}: wanted at most {limit} bytes, found {answer.meta['size']}")
            return bytes(answer.bytes()), answer.meta["last_modified"].timestamp()

        return self._again(whole, name)

    def blocks(self, name: str, size: int, offset: int = 0) -> Iterator[bytes]:
        """The bytes of an object of `size` bytes, from `offset` on; BLOCK bytes or more at a time."""
        with self._reaching(name):
            options: Any = {"range": {"offset": offset}} if offset else None
            answer = obstore.get(self.store, self.prefix + name, options=options)
            check_size(f"{self.url}/{name}", size, answer.meta["size"])
            for block in answer.stream(min_chunk_size=BLOCK):
                yield bytes(block)

    def put(self, name: str, content: "bytes | Iterable[bytes]") -> None:
        """Write an object. It appears whole, and replaces one that is there; or it does not appear at all."""
        with self._reaching(name, "write"):
            if isinstance(content, bytes):
                obstore.put(self.writing, self.prefix + name, content, use_multipart=False)
            else:
                obstore.put(self.writing, self.prefix + name, iter(content), chunk_size=PIECE, max_concurrency=2)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that must not exist yet. Where it exists it stays as it is, and False is returned."""
        with self._reaching(name, "write"):
            try:
                obstore.put(self.writing, self.prefix + name, content, mode="create")
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return False
            except exceptions.NotSupportedError:
                raise CacheStorage(
                    f"{self.url}: wanted a store that can refuse to replace an object (If-None-Match), found one that cannot; "
                    "use another store"
                ) from None
        return True

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects."""
        with self._reaching("", "delete"):
            obstore.delete(self.store, [self.prefix + name for name in names])

    def _again(self, act: Callable[[], Answer], name: str) -> Answer:
        """Ask again for a small answer that breaks off. obstore itself only asks again where no answer begins."""
        for _ in range(BROKEN):
            try:
                with self._reaching(name):
                    return act()
            except CacheSilent:
                raise
            except CacheDropped:
                continue
        with self._reaching(name):
            return act()

    @contextmanager
    def _reaching(self, name: str, verb: str = "read") -> Iterator[None]:
        """Turn an error of obstore inside into one line: the object, the reason and the remedy."""
        where = f"{self.url}/{name}" if name else self.url
        try:
            yield
        except CacheError:
            raise
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise _explained(error, self, where, verb) from None
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # its class cannot be imported, and is no Exception
                raise
            raise CacheStorage(
                f"{where}: the client of {self.scheme}:// broke off ({error}); look at its variables"
            ) from None


def check_size(where: str, wanted: int, size: int) -> None:
    """Raise CacheCorrupt for an object that has not the size that the manifest lists."""
    if size != wanted:
        raise CacheCorrupt(f"{where}: wanted {wanted} bytes, found {size}; push the cache again")


def _explained(error: Exception, bucket: Bucket, where: str, verb: str) -> Exception:
    """The error of this package for one of obstore. Only the text of obstore's error says what went wrong."""
    text = str(error)
    code = re.search(r"<Code>(\w+)</Code>", text)
    if re.search(r"NoSuchBucket|ContainerNotFound|bucket does not exist", text):
        return CacheStorage(f"{bucket.url}: no such bucket; make it, or correct its name")
    endpoint = SCHEMES[bucket.scheme].endpoints[0]
    status = re.search(r"status code: ((\d+) [A-Za-z ]+)|HTTP error: (.+)", text)
    if verb != "read" and (isinstance(error, FileNotFoundError) or (status and status[2] == "404")):
        return CacheStorage(
            f"{where}: the store does not let it be written (404 Not Found); look at the bucket's name and at {endpoint}"
        )
    if isinstance(error, FileNotFoundError):
        return CacheNotFound(f"{where}: no such object")
    if re.search(r"latest/api/token|metadata\.google\.internal|token request", text):
        return CacheStorage(f"{bucket.url}: no credentials found; set {SCHEMES[bucket.scheme].credentials}")
    if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError) or (
        status and status[2] in ("401", "403")
    ):
        reason = f" ({code[1]})" if code else ""
        return CacheStorage(
            f"{where}: not allowed to {verb}{reason}; ask for permission, or set {SCHEMES[bucket.scheme].credentials}"
        )
    if "redirect without LOCATION" in text:
        return CacheStorage(f"{bucket.url}: the bucket is in another region; set AWS_REGION")
    unreadable = re.search(r'Path "(.*)"(?:: Encountered| contained empty path segment)', text, re.DOTALL)
    if unreadable:
        return CacheUnlisted(
            f"{where}: an object there has the name {unreadable[1][:200]!a}, which the client cannot read, so that the place "
            "cannot be listed; delete that object, or pull a cache by its whole key",
            unreadable[1],
        )
    if re.search(r"kind: Timeout|TimedOut|timed out", text):
        return CacheSilent(
            f"{where}: no answer for {SILENCE} s or more; look at the network and at {endpoint}, then run the same command again"
        )
    reason = (status[1] or status[3]) if status else text.split("\n")[0]
    return CacheDropped(
        f"{where}: no whole answer ({reason}); look at the network and at {endpoint}, then run the same command again"
    )
