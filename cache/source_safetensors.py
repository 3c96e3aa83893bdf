"""safetensors, memory-mapped. bfloat16, which NumPy does not have, becomes float32, exactly.

The format has no text: an export keeps it as UTF-8 bytes parted by NUL, in the tensors that the metadata's `text` lists.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from cache.errors import CacheInvalid
from cache.sources import Source, SourceArray, native, step

DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?",
    "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
TEXT = "text"


def open_safetensors(path: Path, prefix: str) -> Source:
    """The tensors of the file and its metadata. CacheInvalid for a file that the library refuses."""
    try:
        # The library checks the header: its size, and that the tensors fill the file without gap or overlap.
        with safe_open(path, "numpy") as checked:
            metadata = dict(checked.metadata() or {})
    except SafetensorError as error:
        raise CacheInvalid(f"{path}: not safetensors, or damaged ({error}); save or copy the file again") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    arrays = [_tensor(path, name, entry, 8 + length, prefix) for name, entry in header.items()]
    text = set(metadata.get(TEXT, "").split("\0"))
    return Source(tuple(_text(array) if array.local in text else array for array in arrays), metadata)


def _tensor(path: Path, local: str, entry: dict[str, Any], start: int, prefix: str) -> SourceArray:
    where, shape = f"{path}[{local}]", tuple(entry["shape"])
    if entry["dtype"] not in DTYPES:
        raise CacheInvalid(f"{where}: {entry['dtype']} is not read; wanted one of {', '.join(DTYPES)}")
    dtype, half = np.dtype(DTYPES[entry["dtype"]]), entry["dtype"] == "BF16"

    def blocks() -> Iterator[np.ndarray]:
        if math.prod(shape) == 0:
            return
        mapped = np.memmap(path, dtype, "r", start + entry["data_offsets"][0], shape)
        rows = step(shape, dtype)
        for row in range(0, shape[0], rows):
            block = native(mapped[row : row + rows])
            yield (block.astype(np.uint32) << 16).view(np.float32) if half else block

    name = f"{prefix}/{local}" if prefix else local
    return SourceArray(name, where, shape, "float32" if half else str(dtype.newbyteorder("=")), blocks, local)


def _text(array: SourceArray) -> SourceArray:
    try:
        values = np.array(array.read().tobytes().decode().split("\0"))
    except UnicodeDecodeError:
        raise CacheInvalid(f"{array.where}: wanted UTF-8 text parted by NUL; save the file again") from None
    return replace(array, shape=values.shape, dtype=str(values.dtype), blocks=lambda: iter([values]))
