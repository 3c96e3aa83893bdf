"""Every image of a split looked at once: header, digest, and a thumbnail by which images that look alike are found."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.decoding import Item, decode, header
from pipeline.images.reading import content_of, digest, each_decoded
from pipeline.images.summary import Header
from pipeline.longtail import Rows

HASH_SIDE = 16
"""Side, in pixels, of the differences between neighbours in a thumbnail. The thumbnail itself is one pixel wider."""
NEAR_BITS = 3
"""Images look alike where their hashes differ in at most so many of 256 bits. A word of 64 bits more than that must be equal."""
NEAR_GREY = 3.0
"""Images that look alike also have thumbnails that differ by at most so much on average, of 255."""
FLAT = 6.0
"""A thumbnail that varies less than this, of 255, is a plain surface: too little to tell images apart by."""
CROWD = 64
"""Images that share a word of the hash, at most, to be compared in pairs: more share it by their kind, such as black frames."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one image: its header, the digest of its file or pixels, and its thumbnail, uint8
    (HASH_SIDE, HASH_SIDE + 1)."""

    header: Header
    digest: bytes
    thumbnail: NDArray[np.uint8]


def look_at(item: Item) -> Look:
    """Decode one image. Raises Undecodable."""
    content = item if isinstance(item, np.ndarray) else content_of(item)
    grey = decode(content).convert("L").resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX)
    sha = digest(content) if isinstance(content, np.ndarray) else hashlib.sha256(content).digest()
    return Look(Header(*header(content)), sha, np.asarray(grey))


def look_at_all(items: Sequence[Item], description: str) -> tuple[list[Look | None], dict[int, str]]:
    """Each image's look, None for those that cannot be decoded, and the reason for each of these rows."""
    return each_decoded(lambda row: look_at(items[row]), len(items), description)


def hashes(thumbnails_N: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The difference hash of thumbnails (N, S, S + 1), whether each pixel is darker than its right neighbour: (N, 4) words."""
    bits_NB = (thumbnails_N[:, :, 1:] > thumbnails_N[:, :, :-1]).reshape(len(thumbnails_N), -1)
    return np.packbits(bits_NB, axis=1).view(np.uint64)


def look_alike(left_N: NDArray[np.uint8], right_M: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs of rows of two stacks of thumbnails that look alike, at most one for each row of the right one.

    Two hashes that differ in at most three bits agree in one of their four words of 64 bits, so only images that share a
    word are compared.
    """
    if not len(left_N) or not len(right_M):
        return []
    left_N4, right_M4 = hashes(left_N), hashes(right_M)
    textured_N = left_N.reshape(len(left_N), -1).std(axis=1) >= FLAT
    textured_M = right_M.reshape(len(right_M), -1).std(axis=1) >= FLAT
    partner: dict[int, int] = {}
    for word in range(4):
        rows_of = _rows_by_word(left_N4[:, word], textured_N)
        for row in np.flatnonzero(textured_M).tolist():
            others = rows_of.get(int(right_M4[row, word]), [])
            if row in partner or not others or len(others) > CROWD:
                continue
            candidates = np.array(others)
            bits = np.bitwise_count(left_N4[candidates] ^ right_M4[row]).sum(axis=1)
            grey = np.abs(left_N[candidates].astype(np.int16) - right_M[row]).mean(axis=(1, 2))
            near = candidates[(bits <= NEAR_BITS) & (grey <= NEAR_GREY)]
            if len(near):
                partner[row] = int(near[0])
    return [(other, row) for row, other in sorted(partner.items())]


def _rows_by_word(word_N: NDArray[np.uint64], textured_N: NDArray[np.bool_]) -> dict[int, list[int]]:
    rows_of: dict[int, list[int]] = {}
    for row in np.flatnonzero(textured_N).tolist():
        rows_of.setdefault(int(word_N[row]), []).append(row)
    return rows_of


def stacked(looks: Sequence[Look | None]) -> tuple[NDArray[np.uint8], Rows]:
    """The thumbnails of the images that could be decoded, (N, HASH_SIDE, HASH_SIDE + 1), and their rows (N,)."""
    rows = np.array([row for row, look in enumerate(looks) if look is not None], dtype=np.int64)
    thumbnails = [look.thumbnail for look in looks if look is not None]
    return np.stack(thumbnails) if thumbnails else np.zeros((0, HASH_SIDE, HASH_SIDE + 1), dtype=np.uint8), rows
