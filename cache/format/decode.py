"""Reading rows from the files of an array: several files at a time, each chunk compared with its checksum.

zarr can read the same files. At the size of ImageNet-LT and on busy cores it had 0.08 to 0.43 of np.load's rate, and this
module 0.5 to 1.0. That was measured before features were also checked for finiteness.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numcodecs import Zstd  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cache.disk import opening
from cache.disk.opening import AGAIN
from cache.errors import CacheCorrupt
from cache.format import description, layout

THREADS = 4
"""Files that are read at a time."""
EXPONENTS: dict[int, tuple[type[np.unsignedinteger], int]] = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}
"""By the bytes of a float: an integer type of as many bytes, and the bits of it that are the float's exponent."""
SCRATCH_VALUES = 1 << 17
"""Features that are checked together. So many, and their copy, fit the cache of a processor's core."""


def read(
    root: Path,
    array: str,
    document: dict[str, Any],
    start: int,
    out_ND: NDArray[np.floating[Any]],
    checksum_of: Callable[[int], str],
) -> None:
    """Fill `out_ND` with rows of an array, each flat, from row `start` on. `array` is the path of its `zarr.json` under `root`.

    `document` is the content of that file. `checksum_of` gives the checksum that the inventory has of the file of a number,
    or an empty text. Raises CacheCorrupt for a file that is missing, damaged, the file of other rows, or that claims to hold
    more than it should; memory for that is not allocated.
    """
    grid = description.Grid.of(document)
    stop = start + len(out_ND)

    def read_file(index: int) -> None:
        first = index * grid.rows_per_file
        low, high = max(start, first), min(stop, first + grid.rows_per_file)
        file = f"{array.removesuffix('zarr.json')}c/{index}{'/0' * (len(document['shape']) - 1)}"
        try:
            with opening.opened(root, file) as opened:
                places = _places(opened, grid, index, checksum_of(index))
                for number in range((low - first) // grid.chunk, layout.chunks(high - first, grid.chunk)):
                    begin = first + number * grid.chunk
                    low, high = max(start, begin), min(stop, begin + grid.chunk)
                    _read_chunk(opened, places[number], grid, low, out_ND[low - start : high - start])
        except (_Damaged, OSError) as error:
            raise CacheCorrupt.about(f"{root / file} (rows {low} to {high - 1})", str(error), AGAIN) from None

    with ThreadPoolExecutor(THREADS) as pool:
        # Where a file fails, map cancels those that are not begun.
        for _ in pool.map(read_file, range(start // grid.rows_per_file, layout.chunks(stop, grid.rows_per_file))):
            pass


def file_checksum(checksums: Iterable[bytes]) -> str:
    """crc32c of the checksums of a file's chunks, 8 hex digits, as the inventory has it of the file."""
    return f"{google_crc32c.value(b''.join(checksums)):08x}"


def crc32c(content: NDArray[np.uint8]) -> int:
    """The checksum of an array's bytes. The library takes an array only where it cannot be written to."""
    fixed = content.view()
    fixed.flags.writeable = False
    return google_crc32c.value(fixed)


class _Damaged(Exception):
    """Raised for a damaged file; the text says what is wrong with it."""


@dataclass(frozen=True)
class _Place:
    """Where a chunk lies in its file: its first byte and its size in bytes, with the checksum at its end."""

    offset: int
    size: int

    @property
    def checksum_offset(self) -> int:
        return self.offset + self.size - layout.CRC_BYTES


def _places(opened: BinaryIO, grid: description.Grid, index: int, wanted: str) -> list[_Place]:
    """Where the chunks of the file of number `index` lie. Their checksums are compared with the inventory's, `wanted`."""
    size, count = os.fstat(opened.fileno()).st_size, grid.chunks_of(index)
    places = [_Place(0, size)] if grid.shard == 1 else _read_index(opened, grid.shard, count, size)
    for place in places:
        if not layout.CRC_BYTES < place.size <= size - place.offset:
            raise _Damaged(
                f"wanted a chunk inside its {size} bytes, found one from {place.offset} to {place.offset + place.size}"
            )
    checksums = [_at(opened, place.checksum_offset, layout.CRC_BYTES) for place in places] if wanted else []
    if wanted and file_checksum(checksums) != wanted:
        raise _Damaged("its checksum is not the manifest's: it is damaged or holds other rows")
    return places


def _read_index(opened: BinaryIO, shard: int, count: int, size: int) -> list[_Place]:
    """The index at the end of a shard: offset and size of each chunk, then a crc32c (Zarr v3, codec sharding_indexed)."""
    length = 16 * shard
    content = _at(opened, max(0, size - length - layout.CRC_BYTES), length + layout.CRC_BYTES)
    index, checksum = content[:length], content[length:]
    if google_crc32c.value(index).to_bytes(layout.CRC_BYTES, "little") != checksum:
        raise _Damaged("the checksum of its index is not that of the index's bytes")
    places_S2 = np.frombuffer(index, "<u8").reshape(shard, 2)
    if (places_S2[:count] == layout.NO_CHUNK).any() or (places_S2[count:] != layout.NO_CHUNK).any():
        raise _Damaged(f"wanted {count} chunks in its index, found others")
    return [_Place(offset, size) for offset, size in places_S2[:count].tolist()]


def _at(opened: BinaryIO, offset: int, length: int) -> bytes:
    opened.seek(offset)
    return opened.read(length)


def _read_chunk(
    opened: BinaryIO, place: _Place, grid: description.Grid, low: int, out_BD: NDArray[np.floating[Any]]
) -> None:
    """Fill `out_BD` with rows of one chunk; `low` is the number of the first of them in the array."""
    begin, size = place.offset, place.size - layout.CRC_BYTES
    whole = len(out_BD) == grid.chunk and out_BD.flags.c_contiguous
    raw = out_BD.reshape(-1).view(np.uint8) if whole else np.empty(grid.raw, np.uint8)
    wanted = _compressed_size(_at(opened, begin, 18), grid.raw, size) if grid.compressed else grid.raw
    if size != wanted:
        raise _Damaged(f"wanted a chunk of {wanted} bytes, found {size}")
    stored = np.empty(size, np.uint8) if grid.compressed else raw
    opened.seek(begin)
    _fill(opened, stored)
    if crc32c(stored).to_bytes(layout.CRC_BYTES, "little") != opened.read(layout.CRC_BYTES):
        raise _Damaged("its checksum is not that of its bytes")
    if grid.compressed:
        _decompress(stored, raw)
    if not whole:
        skip = low % grid.chunk
        out_BD[:] = raw.view(out_BD.dtype).reshape(grid.chunk, grid.width)[skip : skip + len(out_BD)]
    if (offset := _not_finite(out_BD)) is not None:
        raise _Damaged(f"the feature of row {low + offset} is missing or not finite")


def _not_finite(features_BD: NDArray[np.floating[Any]]) -> int | None:
    """The first row that holds an infinity or a NaN, which also stands for a missing row. None where all are finite.

    Such a float has all bits of its exponent set. Looking at the bits of some rows at a time takes a tenth of the time that
    np.isfinite takes on float16 (measured).
    """
    integer, exponent = EXPONENTS[features_BD.itemsize]
    bits_BD = features_BD.view(integer)
    step = max(1, SCRATCH_VALUES // features_BD.shape[1])
    scratch_SD = np.empty((min(step, len(bits_BD)), features_BD.shape[1]), integer)
    for start in range(0, len(bits_BD), step):
        part_SD = scratch_SD[: len(bits_BD) - start]
        np.bitwise_and(bits_BD[start : start + step], integer(exponent), out=part_SD)
        if int(part_SD.max()) == exponent:
            return start + int((part_SD.max(axis=1) == exponent).argmax())
    return None


def _fill(opened: Any, buffer: NDArray[np.uint8]) -> None:
    view = buffer.data
    while view:
        count = opened.readinto(view)
        if not count:
            raise _Damaged("it ends early")
        view = view[count:]


def _compressed_size(header: bytes, raw: int, size: int) -> int:
    """The size of a zstd frame, checked: it must hold `raw` bytes, and take no more than zstd can need for them."""
    content_size = zstd_content_size(header)
    if content_size != raw:
        raise _Damaged(f"wanted a chunk of {raw} bytes, found {content_size}")
    if size > raw + (raw >> 7) + 1024:
        raise _Damaged(f"wanted at most {raw} bytes, found {size}")
    return size


def _decompress(stored: NDArray[np.uint8], raw: NDArray[np.uint8]) -> None:
    try:
        Zstd().decode(stored, out=raw)
    except (RuntimeError, ValueError) as error:
        raise _Damaged(str(error)) from None


def zstd_content_size(header: bytes) -> int | None:
    """How many bytes a zstd frame says that it holds, read from its first 18 bytes; None where it does not say.

    Source: RFC 8878, section 3.1.1.1.
    """
    if header[:4] != b"\x28\xb5\x2f\xfd" or len(header) < 14:
        return None
    descriptor = header[4]
    single_segment = descriptor >> 5 & 1
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(header[start : start + length], "little") + (256 if length == 2 else 0)
