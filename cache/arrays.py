"""The Zarr v3 arrays of a cache: encoding a chunk, and reading what has proved to be ours."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Zstd  # type: ignore[import-untyped]
from zarr.storage import MemoryStore

from cache import layout
from cache.errors import CacheCorrupt, CacheInvalid

WORTHWHILE = 1.3
"""zstd is used where it shrinks the first chunk by more than this; real-valued float16 features do not shrink."""
BLOCK_BYTES = 64 << 20
"""What is decoded at a time: a split is read with this much beside it."""
AGAIN = "pull or extract the cache again"


def worth_compressing(chunk_ND: np.ndarray) -> bool:
    """Whether zstd shrinks these bytes enough to be worth reading through."""
    content = np.ascontiguousarray(chunk_ND).tobytes()
    return len(content) / max(1, len(Zstd(level=layout.ZSTD_LEVEL).encode(content))) > WORTHWHILE


def encode(document: dict[str, Any], index: int, features_ND: np.ndarray) -> bytes:
    """The bytes that zarr stores for chunk `index` of the array described, (at most chunk, D) rows, NaN after the last."""
    # zarr encodes into memory; the disk is durable.py's.
    store: dict[str, Any] = {}
    memory = MemoryStore(store)
    rows, width = document["shape"]
    array = zarr.create_array(
        memory,
        shape=(rows, width),
        chunks=document["chunk_grid"]["configuration"]["chunk_shape"],
        dtype=document["data_type"],
        serializer=document["codecs"][0],
        filters=None,
        compressors=document["codecs"][1:],
        fill_value=float("nan"),
        config={"write_empty_chunks": True},
    )
    start = index * array.chunks[0]
    array[start : start + len(features_ND)] = features_ND
    return store[f"c/{index}/0"].to_bytes()


def read_document(path: Path, rows: int, width: int, chunk: int, dtype: str) -> dict[str, Any]:
    """zarr.json of the array at `path`, which must be one of the two that we write; looked at before zarr opens it."""
    file = path / "zarr.json"
    wanted = [layout.array_document(rows, width, chunk, dtype, compress) for compress in (False, True)]
    try:
        if file.stat().st_size > 1 << 16:
            raise ValueError("more than 64 KiB")
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CacheCorrupt(f"{file}: not the description of an array ({error}); {AGAIN}") from None
    if found in wanted:
        return found
    raise CacheInvalid(f"{file}: {_first_difference(found, wanted)}; not an array of ours: {AGAIN}")


def read(path: Path, document: dict[str, Any], start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows of the array, (stop - start, D); every chunk's checksum is compared on the way.

    Raises CacheCorrupt for a chunk that is damaged, missing, or larger inside than it should be.
    """
    rows, width = document["shape"]
    chunk = document["chunk_grid"]["configuration"]["chunk_shape"][0]
    stop = rows if stop is None else stop
    _check_chunk_sizes(path, document, start // chunk, -(-stop // chunk))
    out_ND = np.empty((stop - start, width), document["data_type"])
    step = chunk * max(1, BLOCK_BYTES // (chunk * width * out_ND.itemsize))
    try:
        array = zarr.open_array(path, mode="r", zarr_format=3)
        for first in range(start - start % chunk, stop, step):
            low, high = max(first, start), min(first + step, stop)
            out_ND[low - start : high - start] = array[low:high]
    except Exception as error:  # zarr and its codecs raise whatever they like on damaged bytes
        reason = str(error).split("\n")[0] or type(error).__name__
        raise CacheCorrupt(f"{path}: a chunk cannot be read ({reason}); {AGAIN}") from error
    missing_N = np.isnan(out_ND[:, 0])
    if missing_N.any():
        raise CacheCorrupt(f"{path}: row {start + int(missing_N.argmax())} is missing; {AGAIN}")
    return out_ND


def _check_chunk_sizes(path: Path, document: dict[str, Any], first: int, last: int) -> None:
    """What a chunk holds, by its size or by its zstd header, is what the description says: nothing larger is allocated."""
    chunk, width = document["chunk_grid"]["configuration"]["chunk_shape"]
    raw = chunk * width * layout.ITEM_BYTES[document["data_type"]]
    compressed = len(document["codecs"]) == 3
    for index in range(first, last):
        file = path / "c" / str(index) / "0"
        try:
            with file.open("rb") as opened:
                found = zstd_content_size(opened.read(18)) if compressed else file.stat().st_size - layout.CRC_BYTES
        except OSError:
            raise CacheCorrupt(f"{file}: missing; {AGAIN}") from None
        if found != raw:
            raise CacheCorrupt(f"{file}: wanted a chunk of {raw} bytes, found {found}; {AGAIN}")


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


def _first_difference(found: Any, wanted: list[dict[str, Any]]) -> str:
    if not isinstance(found, dict):
        return "wanted a JSON object"
    for name in [*wanted[0], *found]:
        if found.get(name) not in [document.get(name) for document in wanted]:
            return f"{name}: wanted {json.dumps(wanted[0].get(name))[:120]}, found {json.dumps(found.get(name))[:120]}"
    return "wanted other fields"
