"""Arrays -> a .npz file, or a folder of .npy files. Streamed, without Python objects."""

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from cache.sources import SourceArray

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every member, the earliest that zip knows: equal caches give equal bytes."""


def write_npz(path: Path, arrays: Sequence[SourceArray]) -> None:
    """One member an array, not compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for array in arrays:
            member = zipfile.ZipInfo(f"{array.name}.npy", EPOCH)
            with archive.open(member, "w", force_zip64=True) as file:
                _write(file, array)


def write_folder(path: Path, arrays: Sequence[SourceArray]) -> None:
    """One file an array."""
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
