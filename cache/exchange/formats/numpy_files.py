"""NumPy's .npy and .npz files, read a block of rows at a time.

The size that a header states is compared with that of the file before memory is allocated.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.source import SourceArray, native, step

BOMB_BYTES, BOMB_RATIO = 1 << 30, 100
"""A compressed array that is larger than this, and this many times as large as in the file, is refused."""
HEADER_BYTES = 10_000
"""The most bytes of an array's header. NumPy itself reads no longer one."""
REASON = 200
"""The most characters of a library's error that are shown."""
MEMBERS = 10_000
"""The most arrays of a file."""
DIRECTORY_BYTES = 4 << 20
"""The most bytes of the directory of a .npz file, which lists its arrays. MEMBERS names fit in. zipfile makes an object of a
kilobyte of each 46 bytes there."""
LENGTHS = {(1, 0): 2, (2, 0): 4}
"""By the version of the format: how many bytes of the file give the length of the header."""
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def open_npy(path: Path, prefix: str) -> SourceArray:
    """The array of a .npy file. It is memory-mapped, so that it may be larger than RAM."""
    with path.open("rb") as file:
        shape, fortran, dtype = _header(file, str(path), path.stat().st_size)
        start = file.tell()

    def blocks() -> Iterator[NDArray[Any]]:
        if math.prod(shape) == 0:
            return
        mapped = np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")
        rows = step(shape, dtype)
        for row in range(0, shape[0], rows):
            yield native(mapped[row : row + rows])

    return SourceArray(prefix or path.stem, str(path), shape, _name(dtype), blocks)


def open_npz(path: Path, prefix: str) -> Iterator[SourceArray]:
    """The arrays of a .npz file, compressed or not. Each is read a block at a time."""
    try:
        with _archive(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if len(members) > MEMBERS:
                raise CacheInvalid(f"{path}: wanted at most {MEMBERS} arrays, found {len(members)}")
            for info in members:
                yield _member(path, archive, info, prefix)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
        raise CacheInvalid(f"{path}: not a .npz file, or damaged ({error}); save or copy it again") from None


class _Bounded(io.BufferedReader):
    """A file that refuses to read more than DIRECTORY_BYTES at once, as long as `bounded` is true."""

    bounded = True

    def read(self, size: int | None = -1) -> bytes:
        if self.bounded and size is not None and size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"wanted a directory of at most {DIRECTORY_BYTES} bytes, found {size}")
        return super().read(size)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a .npz file. zipfile asks for the whole directory in one read, which is refused if it is too large."""
    with _Bounded(io.FileIO(path)) as file, zipfile.ZipFile(file) as archive:
        file.bounded = False
        yield archive


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, prefix: str) -> SourceArray:
    local = info.filename.removesuffix(".npy")
    where = f"{path}[{local}]"
    if info.file_size > max(BOMB_BYTES, BOMB_RATIO * info.compress_size):
        raise CacheInvalid(
            f"{where}: {info.compress_size} bytes that would grow to {info.file_size}; save it without compression"
        )
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file, where, info.file_size)

    def blocks() -> Iterator[NDArray[Any]]:
        try:
            with _archive(path) as again, again.open(info.filename) as file:
                _header(file, where, info.file_size)
                if fortran and len(shape) > 1:  # a row is scattered over the file, so that all of it must be read
                    yield native(_take(file, where, math.prod(shape), dtype).reshape(shape, order="F"))
                    return
                width, rows = math.prod(shape[1:]), step(shape, dtype)
                for row in range(0, shape[0], rows):
                    count = min(rows, shape[0] - row)
                    yield native(_take(file, where, count * width, dtype).reshape(count, *shape[1:]))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise CacheInvalid(f"{where}: damaged ({error}); save or copy the file again") from None

    name = f"{prefix}/{local}" if prefix else local
    return SourceArray(name, where, shape, _name(dtype), blocks, local)


def _take(file: IO[bytes], where: str, items: int, dtype: np.dtype) -> NDArray[Any]:
    """The next `items` values of the file."""
    content = file.read(items * dtype.itemsize)
    if len(content) != items * dtype.itemsize:
        raise CacheInvalid(f"{where}: ends early; save or copy the file again")
    return np.frombuffer(content, dtype)


def _header(file: IO[bytes], where: str, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape of an array, whether it is in Fortran order, and its dtype. It must fill the `size` bytes of the file."""
    try:
        shape, fortran, dtype = _parsed(file)
    except (ValueError, KeyError, EOFError, SyntaxError, TypeError) as error:
        reason = str(error).split("\n")[0][:REASON] or type(error).__name__
        raise CacheInvalid(f"{where}: not a NumPy array, or damaged ({reason}); save or copy the file again") from None
    if dtype.names is not None:
        raise CacheInvalid(f"{where}: a table of {len(dtype.names)} fields; save each field as an array of its own")
    if dtype.hasobject:
        raise CacheInvalid(
            f"{where}: an array of Python objects, which can run code when it is read; "
            "save numbers as numbers and text with array.astype(str)"
        )
    wanted = file.tell() + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or wanted != size:
        raise CacheInvalid(
            f"{where}: wanted {wanted} bytes for {shape} of {dtype}, found {size}; save or copy the file again"
        )
    # A single number is read as an array of one.
    return shape or (1,), fortran, dtype


def _parsed(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype as a header states them. Its length is checked before it is read."""
    version = npy.read_magic(file)
    length_bytes = file.read(LENGTHS[version])
    length = int.from_bytes(length_bytes, "little")
    if length > HEADER_BYTES:
        raise ValueError(f"wanted a header of at most {HEADER_BYTES} bytes, found {length}")
    return HEADERS[version](io.BytesIO(length_bytes + file.read(length)))


def _name(dtype: np.dtype) -> str:
    return str(dtype.newbyteorder("="))


EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every array in a .npz file, the earliest that zip knows. So equal caches give equal files."""


def write_npz(path: Path, arrays: Sequence[SourceArray]) -> None:
    """Write a .npz file, not compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for array in arrays:
            member = zipfile.ZipInfo(f"{array.name}.npy", EPOCH)
            with archive.open(member, "w", force_zip64=True) as file:
                _write(file, array)


def write_folder(path: Path, arrays: Sequence[SourceArray]) -> None:
    """Write each array to a .npy file of its own below a folder."""
    for array in arrays:
        file = path / f"{array.name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as opened:
            _write(opened, array)


def _write(file: IO[bytes], array: SourceArray) -> None:
    dtype = np.dtype(array.dtype).newbyteorder("<")
    header = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": array.shape}
    npy.write_array_header_1_0(file, header)
    for block in array.blocks():
        file.write(np.ascontiguousarray(block, dtype=dtype).tobytes())
