"""Rows out of an array's files: in parallel, straight into their place, each chunk proved on the way.

zarr reads the same files. Measured at ImageNet-LT's size, on busy cores and before features were also looked at for
finiteness, it had 0.08 to 0.43 of np.load's rate and this 0.5 to 1.0.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from numcodecs import Zstd  # type: ignore[import-untyped]

from cache.disk import opening
from cache.disk.opening import AGAIN
from cache.errors import CacheCorrupt
from cache.format import description, layout

THREADS = 4
EXPONENTS: dict[int, tuple[type[np.unsignedinteger], int]] = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}
"""The bits of the exponent in a float of so many bytes, and the integer that they are read as."""
SCRATCH_VALUES = 1 << 17
"""Features looked at together; with their copy they stay in a core's cache."""


def read(
    root: Path,
    array: str,
    document: dict[str, Any],
    start: int,
    out_ND: np.ndarray,
    checksum_of: Callable[[int], str],
) -> None:
    """Fill `out_ND` with the rows, from `start` on, of the array that the file `array` under `root` describes.

    `checksum_of` gives the inventory's checksum of a file by its index, or "". Raises CacheCorrupt for a file that is
    missing, damaged, in another's place, or larger inside than it should be; nothing of that size is allocated.
    """
    grid = description.Grid.of(document)
    stop = start + len(out_ND)

    def one(index: int) -> None:
        first = index * grid.rows_per_file
        low, high = max(start, first), min(stop, first + grid.rows_per_file)
        file = f"{array.removesuffix('zarr.json')}c/{index}/0"
        try:
            with opening.opened(root, file) as opened:
                places = _places(opened, grid, index, checksum_of(index))
                for number in range((low - first) // grid.chunk, layout.chunks(high - first, grid.chunk)):
                    begin = first + number * grid.chunk
                    low, high = max(start, begin), min(stop, begin + grid.chunk)
                    _read_chunk(opened, places[number], grid, low, out_ND[low - start : high - start])
        except (_Damaged, OSError) as error:
            raise CacheCorrupt(f"{root / file} (rows {low} to {high - 1}): {error}; {AGAIN}") from None

    with ThreadPoolExecutor(THREADS) as pool:
        # map takes what is not begun off the list where one fails.
        for _ in pool.map(one, range(start // grid.rows_per_file, layout.chunks(stop, grid.rows_per_file))):
            pass


def file_checksum(checksums: Iterable[bytes]) -> str:
    """crc32c, 8 hex digits, of the checksums of a file's chunks: what the inventory says of the file."""
    return f"{google_crc32c.value(b''.join(checksums)):08x}"


class _Damaged(Exception):
    """What is wrong with a file."""


Place = tuple[int, int]
"""Where a chunk begins in its file, and its bytes, checksum included."""


def _places(opened: BinaryIO, grid: description.Grid, index: int, wanted: str) -> list[Place]:
    """Where the chunks of the file `index` lie; their checksums together are the inventory's, if it knows them."""
    size, count = os.fstat(opened.fileno()).st_size, grid.chunks_of(index)
    places = [(0, size)] if grid.shard == 1 else _read_index(opened, grid.shard, count, size)
    for offset, length in places:
        if not layout.CRC_BYTES < length <= size - offset:
            raise _Damaged(f"wanted a chunk inside its {size} bytes, found one from {offset} to {offset + length}")
    if (
        wanted
        and file_checksum([_at(opened, sum(place) - layout.CRC_BYTES, layout.CRC_BYTES) for place in places]) != wanted
    ):
        raise _Damaged("its checksum is not the manifest's: it is damaged or holds other rows")
    return places


def _read_index(opened: BinaryIO, shard: int, count: int, size: int) -> list[Place]:
    """The index at the end of a shard (Zarr v3, sharding_indexed): offset and bytes of each chunk, crc32c."""
    length = 16 * shard
    found = _at(opened, max(0, size - length - layout.CRC_BYTES), length + layout.CRC_BYTES)
    index, checksum = found[:length], found[length:]
    if google_crc32c.value(index).to_bytes(layout.CRC_BYTES, "little") != checksum:
        raise _Damaged("the checksum of its index is not that of the index's bytes")
    places = np.frombuffer(index, "<u8").reshape(shard, 2)
    if (places[:count] == layout.NO_CHUNK).any() or (places[count:] != layout.NO_CHUNK).any():
        raise _Damaged(f"wanted {count} chunks in its index, found others")
    return [(offset, length) for offset, length in places[:count].tolist()]


def _at(opened: BinaryIO, offset: int, length: int) -> bytes:
    opened.seek(offset)
    return opened.read(length)


def _read_chunk(opened: BinaryIO, place: Place, grid: description.Grid, low: int, out_BD: np.ndarray) -> None:
    """The array's rows from `low` on that the chunk holds."""
    begin, size = place[0], place[1] - layout.CRC_BYTES
    whole = len(out_BD) == grid.chunk and out_BD.flags.c_contiguous
    raw = out_BD.reshape(-1).view(np.uint8) if whole else np.empty(grid.raw, np.uint8)
    wanted = _compressed_size(_at(opened, begin, 18), grid.raw, size) if grid.compressed else grid.raw
    if size != wanted:
        raise _Damaged(f"wanted a chunk of {wanted} bytes, found {size}")
    stored = np.empty(size, np.uint8) if grid.compressed else raw
    opened.seek(begin)
    _fill(opened, stored)
    _compare(stored, opened.read(layout.CRC_BYTES))
    if grid.compressed:
        _decompress(stored, raw)
    if not whole:
        skip = low % grid.chunk
        out_BD[:] = raw.view(out_BD.dtype).reshape(grid.chunk, grid.width)[skip : skip + len(out_BD)]
    if (offset := _not_finite(out_BD)) is not None:
        raise _Damaged(f"the feature of row {low + offset} is missing or not finite")


def _not_finite(features_BD: np.ndarray) -> int | None:
    """The first row that holds a NaN, as missing rows do, or an infinity: all bits of an exponent set.

    On the bits, some rows at a time, it takes a tenth of the time of np.isfinite on float16 (measured).
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


def _fill(opened: Any, buffer: np.ndarray) -> None:
    view = buffer.data
    while view:
        count = opened.readinto(view)
        if not count:
            raise _Damaged("it ends early")
        view = view[count:]


def _compare(stored: np.ndarray, checksum: bytes) -> None:
    fixed = stored.view()
    fixed.flags.writeable = False
    if google_crc32c.value(fixed).to_bytes(layout.CRC_BYTES, "little") != checksum:
        raise _Damaged("its checksum is not that of its bytes")


def _compressed_size(header: bytes, raw: int, size: int) -> int:
    """Bytes of a frame that holds `raw` bytes and takes no more than zstd can need for that."""
    found = zstd_content_size(header)
    if found != raw:
        raise _Damaged(f"wanted a chunk of {raw} bytes, found {found}")
    if size > raw + (raw >> 7) + 1024:
        raise _Damaged(f"wanted at most {raw} bytes, found {size}")
    return size


def _decompress(stored: np.ndarray, raw: np.ndarray) -> None:
    try:
        Zstd().decode(stored, out=raw)
    except (RuntimeError, ValueError) as error:
        raise _Damaged(str(error)) from None


def zstd_content_size(header: bytes) -> int | None:
    """Bytes that a zstd frame declares to hold (RFC 8878, 3.1.1.1), from its first 18; None where it does not say."""
    if header[:4] != b"\x28\xb5\x2f\xfd" or len(header) < 14:
        return None
    descriptor = header[4]
    single_segment = descriptor >> 5 & 1
    length = (single_segment, 2, 4, 8)[descriptor >> 6]
    start = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if not length:
        return None
    return int.from_bytes(header[start : start + length], "little") + (256 if length == 2 else 0)
