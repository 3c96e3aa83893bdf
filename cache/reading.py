"""Rows out of an array's files: in parallel, straight into their place, each chunk proved on the way.

zarr reads the same files; this takes a third to a seventh of its time and no memory beside the rows (measured, see
tests/benchmarks/bench_cache.py).
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import Zstd  # type: ignore[import-untyped]

from cache import files, layout
from cache.errors import CacheCorrupt
from cache.files import AGAIN

THREADS = 4


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
    grid = layout.Grid.of(document)
    stop = start + len(out_ND)

    def one(index: int) -> None:
        low, high = max(start, index * grid.chunk), min(stop, (index + 1) * grid.chunk)
        file = f"{array.removesuffix('zarr.json')}c/{index}/0"
        try:
            _read_file(root, file, grid, low, out_ND[low - start : high - start], checksum_of(index))
        except (_Damaged, OSError) as error:
            raise CacheCorrupt(f"{root / file} (rows {low} to {high - 1}): {error}; {AGAIN}") from None

    with ThreadPoolExecutor(THREADS) as pool:
        # map takes what is not begun off the list where one fails.
        for _ in pool.map(one, range(start // grid.chunk, layout.chunks(stop, grid.chunk))):
            pass


def file_checksum(checksums: Iterable[bytes]) -> str:
    """crc32c, 8 hex digits, of the checksums of a file's chunks: what the inventory says of the file."""
    return f"{google_crc32c.value(b''.join(checksums)):08x}"


class _Damaged(Exception):
    """What is wrong with a file."""


def _read_file(root: Path, file: str, grid: layout.Grid, low: int, out_BD: np.ndarray, wanted: str) -> None:
    """The array's rows from `low` on that the file holds."""
    whole = len(out_BD) == grid.chunk and out_BD.flags.c_contiguous
    raw = out_BD.reshape(-1).view(np.uint8) if whole else np.empty(grid.raw, np.uint8)
    with files.opened(root, file) as opened:
        size = os.fstat(opened.fileno()).st_size - layout.CRC_BYTES
        stored = np.empty(_compressed_size(opened.read(18), grid.raw, size), np.uint8) if grid.compressed else raw
        if size != len(stored):
            raise _Damaged(f"wanted a chunk of {len(stored)} bytes, found {size}")
        opened.seek(0)
        _fill(opened, stored)
        checksum = opened.read(layout.CRC_BYTES)
    _compare(stored, checksum, wanted)
    if grid.compressed:
        _decompress(stored, raw)
    if not whole:
        first = low % grid.chunk
        out_BD[:] = raw.view(out_BD.dtype).reshape(grid.chunk, grid.width)[first : first + len(out_BD)]
    if (offset := _not_finite(out_BD)) is not None:
        raise _Damaged(f"the feature of row {low + offset} is missing or not finite")


def _not_finite(features_BD: np.ndarray) -> int | None:
    """The first row that holds a NaN, as missing rows do, or an infinity: all bits of an exponent set.

    On the bits it takes a tenth of the time of np.isfinite on float16 (measured).
    """
    integer, exponent = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}[features_BD.itemsize]
    bits_BD = features_BD.view(integer) & integer(exponent)
    if int(bits_BD.max()) < exponent:
        return None
    return int((bits_BD.max(axis=1) == exponent).argmax())


def _fill(opened: Any, buffer: np.ndarray) -> None:
    view = buffer.data
    while view:
        count = opened.readinto(view)
        if not count:
            raise _Damaged("it ends early")
        view = view[count:]


def _compare(stored: np.ndarray, checksum: bytes, wanted: str) -> None:
    """The bytes have the checksum that stands after them, and that one is the inventory's."""
    fixed = stored.view()
    fixed.flags.writeable = False
    if google_crc32c.value(fixed).to_bytes(layout.CRC_BYTES, "little") != checksum:
        raise _Damaged("its checksum is not that of its bytes")
    if wanted and file_checksum([checksum]) != wanted:
        raise _Damaged("its checksum is not the manifest's: it holds other rows")


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
