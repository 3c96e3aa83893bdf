"""safetensors, memory-mapped. bfloat16, which NumPy does not have, becomes float32, exactly.

The format has no text: an export keeps it as UTF-8 bytes parted by NUL, in the tensors that the metadata's `text` lists.
"""

import functools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from cache.errors import CacheInvalid
from cache.exchange.source import Source, SourceArray, native, step

DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?",
    "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
TEXT = "text"
HEADER_BYTES = 32 << 20
"""Room for the names of as many classes as a cache may have."""
HEADER_TEXTS = 80_000
"""Texts that a header may hold. A tensor takes five: its name, the names of three fields, and its type."""
AXES = 32
"""Axes that a tensor may have, as many as an array of any NumPy version may have."""
REASON = 200
"""Characters of the library's error that are shown."""


def open_safetensors(path: Path, prefix: str) -> Source:
    """The tensors of a file, and its metadata.

    The header, JSON at the start of the file, names the tensors. Its size and the number of texts in it are looked at
    before it is parsed. Raises CacheInvalid where either is too large, and for a file that the library refuses.
    """
    content = read_header(path)
    try:
        # The library checks the header: its size, and that the tensors fill the file without gap or overlap.
        with safe_open(path, "numpy") as checked:
            metadata = dict(checked.metadata() or {})
    except SafetensorError as error:
        raise CacheInvalid(
            f"{path}: not safetensors, or damaged ({str(error)[:REASON]}); save or copy the file again"
        ) from None
    header = json.loads(content)
    header.pop("__metadata__", None)
    arrays = [_tensor(path, name, entry, 8 + len(content), prefix) for name, entry in header.items()]
    text = set(metadata.get(TEXT, "").split("\0"))
    notes: tuple[str, ...] = ()
    if TEXT not in metadata and mixes_up_strided():
        notes = (
            f"{path}: safetensors.numpy {safetensors.__version__}, which is installed here, writes arrays that are not "
            "contiguous (x.T, x[:, ::2]) with their numbers mixed up; if it wrote such arrays here, save np.ascontiguousarray(x) "
            "and import again",
        )
    return Source(tuple(_text(array) if array.local in text else array for array in arrays), metadata, notes=notes)


def read_header(path: Path) -> bytes:
    """The bytes of the file's header, as far as the file has them; CacheInvalid for one that would cost too much to parse."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if HEADER_BYTES < length < path.stat().st_size:
            raise CacheInvalid(
                f"{path}: a header of {length} bytes, at most {HEADER_BYTES} wanted; save fewer tensors in it"
            )
        content = file.read(min(length, HEADER_BYTES))
    texts = (content.count(b'"') - content.count(b'\\"')) // 2
    if texts > HEADER_TEXTS:
        raise CacheInvalid(
            f"{path}: a header of {texts} texts, at most {HEADER_TEXTS} wanted; save fewer tensors in it"
        )
    return content


@functools.cache
def mixes_up_strided() -> bool:
    """Whether the installed safetensors.numpy writes arrays that are not contiguous wrongly; found by writing four numbers."""
    array = np.asfortranarray(np.arange(4.0).reshape(2, 2))
    return not np.array_equal(safetensors.numpy.load(safetensors.numpy.save({"x": array}))["x"], array)


def _tensor(path: Path, local: str, entry: dict[str, Any], start: int, prefix: str) -> SourceArray:
    # A lone number is read as an array of one.
    where, shape = f"{path}[{local}]", tuple(entry["shape"]) or (1,)
    if entry["dtype"] not in DTYPES:
        raise CacheInvalid(f"{where}: {entry['dtype']} is not read; wanted one of {', '.join(DTYPES)}")
    if len(shape) > AXES:
        raise CacheInvalid(f"{where}: a tensor of {len(shape)} axes, at most {AXES} wanted; save it with fewer")
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


CODES = {np.dtype(dtype).str: code for code, dtype in DTYPES.items() if code != "BF16"}


def write_safetensors(path: Path, arrays: Sequence[SourceArray]) -> None:
    """Text becomes UTF-8 bytes parted by NUL, the class names metadata too, where other tools look for them."""
    text = [array.name for array in arrays if array.dtype.startswith("<U")]
    # Wide types first, as the library writes them, so that every tensor lies aligned.
    plain = sorted((_bytes(array) for array in arrays), key=lambda array: -np.dtype(array.dtype).itemsize)
    classes = next(array for array in arrays if array.name == "classes").read().tolist()
    header: dict = {"__metadata__": {TEXT: "\0".join(text), "classes": json.dumps(classes)}}
    end = 0
    for array in plain:
        dtype = np.dtype(array.dtype)
        start, end = end, end + math.prod(array.shape) * dtype.itemsize
        header[array.name] = {"dtype": CODES[dtype.str], "shape": array.shape, "data_offsets": (start, end)}
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for array in plain:
            for block in array.blocks():
                file.write(np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("<")).tobytes())


def _bytes(array: SourceArray) -> SourceArray:
    if not array.dtype.startswith("<U"):
        return array
    content = np.frombuffer("\0".join(array.read().tolist()).encode(), np.uint8)
    return replace(array, shape=content.shape, dtype="uint8", blocks=lambda: iter([content]))
