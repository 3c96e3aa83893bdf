"""The Zarr v3 arrays of a cache: how they are laid out, and which ones are accepted."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from cache.errors import CacheCorrupt, CacheInvalid

FOLDER = "features.zarr"
CHUNK_BYTES = 6 << 20
"""A chunk is at most this large: between 4 and 8 MiB where the split is."""
WORTHWHILE = 1.3
"""zstd is used where it shrinks the first chunk by more than this; real-valued float16 features do not shrink."""


def rows_per_chunk(width: int, dtype: str) -> int:
    """Rows of a chunk that holds all D channels."""
    return max(1, CHUNK_BYTES // (width * np.dtype(dtype).itemsize))


def worth_compressing(chunk_ND: np.ndarray) -> bool:
    """Whether zstd at level 3 shrinks these bytes enough to be worth reading through."""
    content = np.ascontiguousarray(chunk_ND).tobytes()
    return len(content) / max(1, len(Zstd(level=3).encode(content))) > WORTHWHILE


def create_group(root: Path, splits: Sequence[str]) -> None:
    """The groups of the store: the root and one a split."""
    group = zarr.open_group(root / FOLDER, mode="a", zarr_format=3)
    for split in splits:
        group.require_group(split)


def create(
    root: Path, split: str, view: str, shape: tuple[int, int], chunk: int, dtype: str, compress: bool
) -> zarr.Array:
    """A new array, or the one that is there: (N, D), chunked along N, crc32c on every chunk, NaN where nothing is."""
    compressors: list[Any] = [ZstdCodec(level=3), Crc32cCodec()] if compress else [Crc32cCodec()]
    path = root / FOLDER / split / view
    if (path / "zarr.json").is_file():
        return zarr.open_array(path, mode="r+", config={"write_empty_chunks": True})
    return zarr.create_array(
        path,
        shape=shape,
        chunks=(min(chunk, shape[0]), shape[1]),
        dtype=dtype,
        serializer=BytesCodec(endian="little"),
        filters=None,
        compressors=compressors,
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
    )


def chunk_file(split: str, view: str, index: int) -> str:
    """A chunk's path inside the cache."""
    return f"{FOLDER}/{split}/{view}/c/{index}/0"


def read(root: Path, split: str, view: str, shape: tuple[int, int], dtype: str) -> np.ndarray:
    """The whole array, (N, D); every chunk's checksum is compared on the way.

    Raises CacheInvalid for an array of another shape, dtype or codec than ours, CacheCorrupt for a bad or missing chunk.
    """
    path = root / FOLDER / split / view
    check_metadata(path, shape, dtype)
    try:
        array_ND = np.asarray(zarr.open_array(path, mode="r")[:])
    except Exception as error:
        raise CacheCorrupt(f"{path}: a chunk cannot be read ({error}); pull or extract the cache again") from error
    missing_N = np.isnan(array_ND[:, 0])
    if missing_N.any():
        row = int(missing_N.argmax())
        raise CacheCorrupt(f"{path}: row {row} is missing; pull or extract the cache again")
    return array_ND


def check_metadata(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """The array's zarr.json describes what the manifest says, with our codecs; looked at before anything is opened."""
    file = path / "zarr.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        codecs = [codec["name"] for codec in found["codecs"]]
        described = (found["zarr_format"], tuple(found["shape"]), found["data_type"])
        chunk = tuple(found["chunk_grid"]["configuration"]["chunk_shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CacheCorrupt(
            f"{file}: not the description of an array ({error}); pull or extract the cache again"
        ) from None
    if described != (3, shape, dtype):
        raise CacheInvalid(
            f"{file}: wanted Zarr 3, shape {shape}, {dtype}; found Zarr {described[0]}, {described[1]}, {described[2]}"
        )
    if codecs not in (["bytes", "crc32c"], ["bytes", "zstd", "crc32c"]):
        raise CacheInvalid(f"{file}: wanted codecs bytes, zstd, crc32c; found {', '.join(map(str, codecs))}")
    if len(chunk) != 2 or not 0 < chunk[0] <= shape[0] or chunk[1] != shape[1]:
        raise CacheInvalid(f"{file}: wanted chunks of whole rows of {shape[1]} channels, found {chunk}")
