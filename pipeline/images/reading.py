"""Reads every image of a split once, in threads: its digest, whether it can be decoded, and what decides how it is decoded."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.images.bad import raise_broken
from pipeline.images.decoding import Item, Undecodable, decode, is_inverted, is_turned, peak
from pipeline.images.depth import NO_PEAK, Peak
from pipeline.images.orientation import PNG, may_be_turned
from pipeline.progress import track

T = TypeVar("T")
BLOCK = 256
"""Images that a thread takes at a time. One at a time, handing over would cost more than decoding a tiny image."""
IMAGE_BYTES = 1 << 30
"""An image file may have at most so many bytes. No image of the allowed number of pixels needs more."""
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FLOAT_MAP = b"Pf"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one image once its bytes are read.

    `digest` is the sha256 (32 bytes) of its file or pixels. `is_turned`: its EXIF orientation says that it lies on its side or
    head. `peak` is its largest value where it has more than 8 bits a colour. `is_inverted`: it has, and 0 is white in it.
    """

    digest: bytes
    is_turned: bool = False
    peak: Peak = NO_PEAK
    is_inverted: bool = False


def read_all(items: Sequence[Item], names: Sequence[str]) -> list[Facts]:
    """The facts of each item. Raises DataError for files that cannot be read."""
    facts_of, broken = each_decoded(lambda row: read(items[row]), len(items), "images read")
    raise_broken(broken, names)
    return [facts for facts in facts_of if facts is not None]


def read(item: Item) -> Facts:
    """The facts of one image. Raises Undecodable for a file that cannot be read or is too large."""
    if isinstance(item, np.ndarray):
        return Facts(digest(item))
    content = content_of(item)
    is_deep = content[24:25] == b"\x10" if content.startswith(PNG) else content[:4] in TIFF or content[:2] == FLOAT_MAP
    return Facts(
        hashlib.sha256(content).digest(),
        may_be_turned(content) and is_turned(content),
        peak(content) if is_deep else NO_PEAK,
        content[:4] in TIFF and is_inverted(content),
    )


def digest(item: Item) -> bytes:
    """sha256 of the file, of the encoded bytes, or of the pixels and their shape. Raises Undecodable for an unreadable file."""
    if isinstance(item, np.ndarray):
        return hashlib.sha256(repr(item.shape).encode() + item.tobytes()).digest()
    return hashlib.sha256(content_of(item)).digest()


def content_of(item: Path | bytes) -> bytes:
    """The bytes of an image file. Raises Undecodable for a file that cannot be read or is too large."""
    if isinstance(item, bytes):
        return item
    try:
        if (size := item.stat().st_size) > IMAGE_BYTES:
            raise Undecodable(f"{size} bytes, at most {IMAGE_BYTES} wanted")
        return item.read_bytes()
    except OSError as error:
        raise Undecodable(error.strerror or "cannot be read") from None


def find_broken(items: Sequence[Item], names: Sequence[str], look: Callable[[Item], object] = decode) -> dict[int, str]:
    """The reason for each row where `look` raises Undecodable; by default every image is decoded and dropped again."""
    return each_decoded(lambda row: look(items[row]) and None, len(names), "images checked")[1]


def each_decoded(work: Callable[[int], T], rows: int, description: str) -> tuple[list[T | None], dict[int, str]]:
    """The result of `work` for each row, in one thread a processor, and the reason for each row where it raised Undecodable.

    Without a `description`, no progress is shown.
    """
    broken: dict[int, str] = {}

    def block(start: int) -> list[T | None]:
        return [guarded(row) for row in range(start, min(start + BLOCK, rows))]

    def guarded(row: int) -> T | None:
        try:
            return work(row)
        except Undecodable as error:
            broken[row] = str(error)
            return None

    results: list[T | None] = []
    with ThreadPoolExecutor(cpu_count()) as pool, track(rows, description, "images", bool(description)) as progress:
        for block_results in pool.map(block, range(0, rows, BLOCK)):
            results += block_results
            progress.advance(len(block_results))
    return results, broken
