"""safetensors files, memory-mapped. NumPy has no bfloat16, so such tensors become float32, without rounding.

The format has no text. An export writes texts as UTF-8 bytes with a NUL between them, and lists the tensors that are texts
under `text` in the metadata.
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
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cache.errors import CacheInvalid
from cache.exchange.source import Source, SourceArray, native, step

DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2", "BOOL": "?",
    "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
"""NumPy's type for each type of the format. BF16 is read as 16 bits."""
TEXT = "text"
"""The key of the metadata that lists the tensors which are texts."""
HEADER_BYTES = 32 << 20
"""The most bytes of a header. A million class names fit in."""
HEADER_TEXTS = 80_000
"""The most texts of a header. A tensor takes five: its name, the names of its three fields, and its type."""
AXES = 32
"""The most axes of a tensor, as many as every version of NumPy allows."""
REASON = 200
"""The most characters of the library's error that are shown."""


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
    """The bytes of a file's header, as many as the file has. Raises CacheInvalid for one that would cost too much to parse."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if HEADER_BYTES < length < path.stat().st_size:
            raise CacheInvalid(
                f"{path}: wanted a header of at most {HEADER_BYTES} bytes, found {length}; save fewer tensors in it"
            )
        content = file.read(min(length, HEADER_BYTES))
    texts = (content.count(b'"') - content.count(b'\\"')) // 2
    if texts > HEADER_TEXTS:
        raise CacheInvalid(
            f"{path}: wanted a header of at most {HEADER_TEXTS} texts, found {texts}; save fewer tensors in it"
        )
    return content


@functools.cache
def mixes_up_strided() -> bool:
    """Whether the installed safetensors.numpy mixes up the numbers of arrays that are not contiguous. Four are tried."""
    array = np.asfortranarray(np.arange(4.0).reshape(2, 2))
    return not np.array_equal(safetensors.numpy.load(safetensors.numpy.save({"x": array}))["x"], array)


def _tensor(path: Path, local: str, entry: dict[str, Any], start: int, prefix: str) -> SourceArray:
    # A single number is read as an array of one.
    where, shape = f"{path}[{local}]", tuple(entry["shape"]) or (1,)
    if entry["dtype"] not in DTYPES:
        raise CacheInvalid(f"{where}: wanted a type of {', '.join(DTYPES)}, found {entry['dtype']}")
    if len(shape) > AXES:
        raise CacheInvalid(f"{where}: wanted a tensor of at most {AXES} axes, found {len(shape)}; save it with fewer")
    dtype, half = np.dtype(DTYPES[entry["dtype"]]), entry["dtype"] == "BF16"

    def blocks() -> Iterator[NDArray[Any]]:
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
    """The texts that an export wrote as a tensor of bytes."""
    try:
        values = np.array(array.read().tobytes().decode().split("\0"))
    except UnicodeDecodeError:
        raise CacheInvalid(f"{array.where}: wanted UTF-8 texts with NUL between them; save the file again") from None
    return replace(array, shape=values.shape, dtype=str(values.dtype), blocks=lambda: iter([values]))


CODES = {np.dtype(dtype).str: code for code, dtype in DTYPES.items() if code != "BF16"}
"""The format's type for each of NumPy's."""


def write_safetensors(path: Path, arrays: Sequence[SourceArray]) -> None:
    """Write the arrays as tensors. Class names are also put into the metadata, where other tools look for them."""
    text = [array.name for array in arrays if _is_text(array)]
    # The library puts wide types first, so that every tensor is aligned.
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


def _is_text(array: SourceArray) -> bool:
    return np.dtype(array.dtype).kind == "U"


def _bytes(array: SourceArray) -> SourceArray:
    """An array of texts as bytes; others as they are."""
    if not _is_text(array):
        return array
    content = np.frombuffer("\0".join(array.read().tolist()).encode(), np.uint8)
    return replace(array, shape=content.shape, dtype="uint8", blocks=lambda: iter([content]))
