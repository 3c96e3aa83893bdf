"""Push: copying a cache to a place. Others see the whole cache there, or nothing."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from cache.disk.opening import AGAIN
from cache.errors import CacheCorrupt, CacheDropped, CacheError, CacheInvalid, CacheNotFound, CacheStorage
from cache.format.layout import MANIFEST
from cache.manifest import Entry, Manifest
from cache.sharing import offers
from cache.sharing.bucket import PIECE, Bucket
from cache.sharing.folder import Folder
from cache.sharing.offers import Offer, Shared, shared
from cache.sharing.parallel import ATTEMPTS, Advance, Note, concurrently
from cache.sharing.pull import receive

Published = Literal["none", "mine", "damaged"]
"""What stands under the name of the manifest: nothing, the same manifest, or one that is damaged or lacks files."""
UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


def push(
    path: Path, place: Folder | Bucket, advance: Advance = lambda size: None, note: Note = lambda text: None
) -> Shared:
    """Copy a local cache to a place: first its files, each compared with the manifest as it is read, then the manifest.

    Files that are there already are read back, and sent again where they differ. So a push continues one that was cut off,
    and repairs a damaged copy. A damaged manifest is replaced. Where somebody else's whole cache of the same key was there
    first, that one stays. Raises CacheCorrupt where the local cache is damaged; then nothing of it is published. Raises
    CacheStorage where the place cannot be written.
    """
    from cache.reader import FeatureCache  # imports zarr and polars, for which `cache ls` should not wait

    path = Path(path).resolve()  # because no link inside a place is followed
    held = FeatureCache.open(path)  # as long as it is open, nobody removes the cache
    content = (path / MANIFEST).read_bytes()
    mine = Offer(Folder(path.parent), held.manifest, content, path.name, 0.0, AGAIN)
    if isinstance(place, Folder):
        return _copy(mine, place, advance, note)
    try:
        theirs = offers.offer(place, held.key)
    except CacheInvalid:
        return _send_all(mine, place, "damaged", advance)
    if theirs is None:
        return _send_all(mine, place, "none", advance)
    if theirs.content == content:
        return _send_all(mine, place, "mine", advance)
    if _missing(place, theirs.home, theirs.manifest):
        return _send_all(mine, place, "damaged", advance)
    return _theirs(theirs)


def _copy(mine: Offer, folder: Folder, advance: Advance, note: Note) -> Shared:
    """Push to a folder, as a pull from the other side."""
    try:
        arrived = receive(mine, folder.path, advance, note)
    except CacheStorage as error:
        if error.errno not in UNWRITABLE:
            raise
        raise CacheStorage(
            error.errno,
            f"{folder.url}: cannot be written ({os.strerror(error.errno)}); make the folder writable, or push to another, "
            "then run the same command again",
        ) from None
    if arrived:
        return shared(mine.manifest, f"{folder.url}/{mine.manifest.key}", "pushed")
    theirs = offers.offer(folder, mine.manifest.key)
    if theirs is not None and theirs.content != mine.content:
        return _theirs(theirs)
    return shared(mine.manifest, f"{folder.url}/{mine.manifest.key}", "there")


def _send_all(mine: Offer, bucket: Bucket, published: Published, advance: Advance) -> Shared:
    """Push to a bucket: the files, then the manifest."""
    home, inventory = bucket.home(mine.manifest), mine.manifest.inventory
    there, sent = bucket.sizes(home), threading.Event()

    def send(entry: Entry, halted: threading.Event) -> None:
        if there.get(entry.file) != entry.size or not _is_whole(bucket, f"{home}/{entry.file}", entry, halted):
            _send(mine, bucket, f"{home}/{entry.file}", entry, halted)
            sent.set()

    concurrently(send, inventory, advance)
    if missing := _missing(bucket, home, mine.manifest):
        raise CacheStorage(
            f"{missing}, though the store said that it took it; look at the store, then run the same command again"
        )
    where, name = f"{bucket.url}/{mine.manifest.key}", f"{mine.manifest.key}/{MANIFEST}"
    if published == "mine":
        return shared(mine.manifest, where, "pushed" if sent.is_set() else "there")
    if published == "damaged":
        bucket.put(name, mine.content)
    else:
        bucket.create(name, mine.content)
    theirs = offers.offer(bucket, mine.manifest.key)
    if theirs is None:
        raise CacheStorage(
            f"{bucket.url}/{name}: wanted {len(mine.content)} bytes, found none, though the store said that it took it; "
            "look at the store, then run the same command again"
        )
    if theirs.content != mine.content:
        # Nobody will read the files that were sent. Where deleting them is not allowed, they stay.
        with suppress(CacheError):
            bucket.delete(f"{home}/{entry.file}" for entry in inventory)
        return _theirs(theirs)
    return shared(mine.manifest, where, "pushed")


def _is_whole(bucket: Bucket, name: str, entry: Entry, halted: threading.Event) -> bool:
    """Whether an object has the bytes that the manifest lists."""
    digest = hashlib.sha256()
    try:
        for block in bucket.blocks(name, entry.size):
            if halted.is_set():
                return True
            digest.update(block)
    except (CacheDropped, CacheCorrupt, CacheNotFound):
        return False
    return digest.hexdigest() == entry.sha256


def _send(mine: Offer, bucket: Bucket, name: str, entry: Entry, halted: threading.Event) -> None:
    """Send one file; an upload that breaks off is tried again."""
    for attempt in range(1, ATTEMPTS + 1):
        pieces = _pieces(mine, entry, halted)
        try:
            bucket.put(name, pieces if entry.size > PIECE else b"".join(pieces))
        except CacheDropped:
            if attempt == ATTEMPTS or halted.is_set():
                raise
        else:
            return


def _pieces(mine: Offer, entry: Entry, halted: threading.Event) -> Iterator[bytes]:
    """The bytes of a file, PIECE at a time.

    The last piece is only handed on once the digest of all is the manifest's, so that a damaged file never appears.
    """
    digest, waiting = hashlib.sha256(), bytearray()
    for block in mine.place.blocks(f"{mine.home}/{entry.file}", entry.size):
        if halted.is_set():
            raise CacheDropped(f"{mine.where}: stopped")
        if len(waiting) >= PIECE:
            yield bytes(waiting)
            waiting.clear()
        digest.update(block)
        waiting += block
    if digest.hexdigest() != entry.sha256:
        raise CacheCorrupt(
            f"{mine.place.url}/{mine.home}/{entry.file}: wanted sha256 {entry.sha256}, found {digest.hexdigest()}; "
            f"nothing is published; {AGAIN}"
        )
    yield bytes(waiting)


def _theirs(offer: Offer) -> Shared:
    """The result where somebody else's whole cache of the same key stays."""
    return shared(offer.manifest, offer.where, "theirs")


def _missing(bucket: Bucket, home: str, manifest: Manifest) -> str:
    """The first object that is missing or has a wrong size, with both sizes; empty where there is none."""
    there = bucket.sizes(home)
    for entry in manifest.inventory:
        if there.get(entry.file) != entry.size:
            size = f"{there[entry.file]} bytes" if entry.file in there else "none"
            return f"{bucket.url}/{home}/{entry.file}: wanted {entry.size} bytes, found {size}"
    return ""
