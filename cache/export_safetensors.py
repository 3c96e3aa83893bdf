"""Arrays -> a safetensors file, streamed: a length, a JSON header, then the bytes of one tensor after another."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cache.source_safetensors import DTYPES, TEXT
from cache.sources import SourceArray

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
