"""Pull: copying a cache from a place. Its files go to a staging folder, every digest is compared, then one rename.

A pull that was cut off is continued by the next.
"""

import hashlib
import shutil
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from cache import catalog, remove
from cache.disk import durable, opening
from cache.disk.locks import locked
from cache.errors import CacheCorrupt, CacheDropped, CacheError, CacheInvalid, CacheNotFound, CacheStorage
from cache.format import layout
from cache.manifest import Entry
from cache.sharing import offers as remote_offers
from cache.sharing.bucket import Bucket
from cache.sharing.folder import Folder
from cache.sharing.offers import Offer, Shared, shared
from cache.sharing.parallel import ATTEMPTS, WORKERS, Advance, Note, concurrently


class _Part:
    """The part of a file that has arrived, with its size and digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.clear()

    def clear(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.digest, self.size = hashlib.sha256(), 0

    def write(self, block: bytes) -> None:
        self._file.write(block)
        self.digest.update(block)
        self.size += len(block)


def receive(offer: Offer, stores: Path, advance: Advance, note: Note) -> bool:
    """Copy a cache to the folder `stores`. False where a whole one of its key is there already, all bytes compared.

    A damaged one that is there is replaced, in one step, once all files have arrived. `advance` is called with the size of
    each file. Raises CacheCorrupt for a file whose bytes are not the manifest's, CacheNotFound for one that is missing, and
    CacheStorage where a disk or the network fails. Files that arrived whole are kept, and the next call continues from there.
    """
    key = offer.manifest.key
    path = stores / key
    if is_whole(path):
        advance(offer.manifest.size)
        return False
    work = stores / catalog.STAGING / f"{key}.pull"
    durable.make_folder(work.parent)

    def waiting() -> None:
        note(f"cache {key[:12]}: another process brings it; waiting until it is done")

    with locked(work.parent / f"{work.name}.lock", waiting):
        if is_whole(path):
            return False
        try:
            with durable.storing(work):
                _gather(offer, work / layout.DATA, advance)
                _publish(offer, work, path)
        except (OSError, CacheError):
            if not is_whole(path):  # without locks another process may have brought it first
                raise
        durable.remove_tree(work)
    return True


def is_whole(path: Path) -> bool:
    """Whether a folder is a cache whose files are, byte for byte, those of its manifest."""
    try:
        manifest = catalog.read_manifest(path)
        catalog.check(path, manifest)
    except CacheError:
        return False
    with ThreadPoolExecutor(WORKERS) as pool:
        return not any(pool.map(lambda entry: opening.difference(path, entry), manifest.inventory))


def _gather(offer: Offer, data: Path, advance: Advance) -> None:
    """Fetch the files that are not in the folder `data` yet. Raises CacheStorage where they would not fit on the disk."""
    inventory = offer.manifest.inventory
    for folder in sorted({(data / entry.file).parent for entry in inventory}):
        durable.make_folder(folder)
    kept = sum(_size(data / entry.file) for entry in inventory)
    free, needed = shutil.disk_usage(data).free, offer.manifest.size - kept
    if needed > free:
        raise CacheStorage(
            f"{data}: wanted {needed} bytes for the rest of {offer.where}, found {free} free; free space, then run the same "
            "command again"
        )
    concurrently(lambda entry, halted: _fetch(offer, entry, data / entry.file, halted), inventory, advance)


def _publish(offer: Offer, work: Path, path: Path) -> None:
    """Publish the files that have arrived, through a new folder of links that no other process changes."""
    sealed = work / f"sealed-{uuid.uuid4().hex}"
    try:
        for entry in offer.manifest.inventory:
            durable.make_folder((sealed / entry.file).parent)
            durable.link(work / layout.DATA / entry.file, sealed / entry.file)
        durable.replace(sealed / layout.MANIFEST, offer.content)
        damaged = remove.set_aside(path)
        durable.appear(sealed, path)
        if damaged is not None:
            durable.remove_tree(damaged)
    finally:
        durable.remove_tree(sealed)


def _fetch(offer: Offer, entry: Entry, path: Path, halted: threading.Event) -> None:
    """Fetch one file. After an answer that breaks off the rest is asked for, until the digest is the manifest's."""
    if _size(path) == entry.size and durable.sha256(path) == entry.sha256:
        return
    name = f"{offer.home}/{entry.file}"
    wrong = stuck = 0
    with durable.writing(path) as file:
        part = _Part(file)
        while True:
            before = part.size
            try:
                _append(offer, name, entry, part, halted)
            except CacheDropped:
                stuck = stuck + 1 if part.size == before else 0
                if stuck == ATTEMPTS or halted.is_set():
                    raise
                continue
            digest = part.digest.hexdigest()
            if digest == entry.sha256:
                return
            wrong += 1
            if wrong == ATTEMPTS:
                raise CacheCorrupt(
                    f"{offer.place.url}/{name}: wanted sha256 {entry.sha256}, found {digest}, {wrong} times; "
                    f"{offer.remedy}"
                )
            part.clear()


def _append(offer: Offer, name: str, entry: Entry, part: _Part, halted: threading.Event) -> None:
    try:
        for block in offer.place.blocks(name, entry.size, part.size):
            if halted.is_set():
                break
            part.write(block[: entry.size - part.size])
    except (CacheCorrupt, CacheInvalid, CacheNotFound) as error:
        # The remedy of a file's error is for a cache in stores/, and a missing object's error has none.
        problem = "no such object" if isinstance(error, CacheNotFound) else error.problem
        if not problem:
            raise
        raise type(error).about(f"{offer.place.url}/{name}", problem, offer.remedy) from None
    if part.size < entry.size:
        raise CacheDropped(f"{offer.place.url}/{name}: wanted {entry.size} bytes, broke off after {part.size}")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else 0


def find(place: Folder | Bucket, reference: str) -> Offer:
    """The cache of a place that a user named by its key, or by the first digits of it, 4 or more.

    Raises CacheNotFound where no cache fits, and CacheInvalid where several do.
    """
    keys = [reference] if layout.KEY.fullmatch(reference) else []
    if not keys and len(reference) >= 4:
        keys = [key for key in place.names() if key.startswith(reference)]
    offers = [offer for key in keys if (offer := remote_offers.offer(place, key))]
    if len(offers) > 1:
        raise CacheInvalid(catalog.ambiguous(reference, sorted(offer.manifest.key for offer in offers), place.url))
    if not offers:
        raise CacheNotFound(
            f"cache {reference}: neither a key nor the start of one in {place.url}; `cache ls {place.url}` lists those there are"
        )
    return offers[0]


def pull(offer: Offer, stores: Path, advance: Advance = lambda size: None, note: Note = lambda text: None) -> Shared:
    """Copy a cache from a place to the folder `stores`, as `receive` does."""
    arrived = receive(offer, stores, advance, note)
    return shared(offer.manifest, str(stores / offer.manifest.key), "pulled" if arrived else "there")
