"""An image as a source holds it (a file, encoded bytes, an array) -> 8-bit RGB."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import DataError
from pipeline.progress import track

PIXELS = 89_478_485
"""Of an image, at most: 256 MiB as RGB, where Pillow begins to warn."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Those whose header says how large the image becomes. Of Pillow's others, EPS starts a program and icons hold whole files."""
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow would go on after a line on stderr


Item = Path | bytes | NDArray[np.uint8]
"""A file, an encoded image, or decoded pixels (H, W, 3)."""


class Undecodable(Exception):
    """An image that cannot be decoded; the text says why."""


def decode(item: Item) -> Image.Image:
    """The item as 8-bit RGB: grey is repeated, palettes looked up, alpha dropped, 16 bits scaled to 8.

    Raises Undecodable.
    """
    try:
        if isinstance(item, np.ndarray):
            return Image.fromarray(item)
        with _open(item) as image:
            image.load()
            return _rgb(image)
    except Exception as error:
        # Pillow's decoders raise a dozen types, SyntaxError and struct.error among them; all mean the same here.
        raise Undecodable(_reason(item, error)) from None


def probe(item: Item) -> tuple[int, int]:
    """Width and height, read from the header alone. Raises Undecodable."""
    try:
        if isinstance(item, np.ndarray):
            return item.shape[1], item.shape[0]
        with _open(item) as image:
            return image.size
    except Exception as error:
        raise Undecodable(_reason(item, error)) from None


def digest(item: Item) -> bytes:
    """sha256 of the file, of the encoded bytes, or of the pixels and their shape. Raises Undecodable for an unreadable file."""
    if isinstance(item, np.ndarray):
        return hashlib.sha256(repr(item.shape).encode() + item.tobytes()).digest()
    if isinstance(item, bytes):
        return hashlib.sha256(item).digest()
    try:
        with item.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise Undecodable(error.strerror or "cannot be read") from None


def _open(item: Path | bytes) -> Image.Image:
    image = Image.open(item if isinstance(item, Path) else io.BytesIO(item), formats=FORMATS)
    if (pixels := image.width * image.height) > PIXELS:
        image.close()
        raise Image.DecompressionBombError(f"{pixels} pixels")
    return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey; Pillow clips it to 255 on conversion, which leaves white.
        values = np.asarray(image).astype(np.float64).clip(0, 65535)
        return Image.fromarray(np.rint(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image))
        scale = 255 if values.max(initial=0) <= 1 else 1
        return Image.fromarray(np.rint((values * scale).clip(0, 255)).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _reason(item: Item, error: Exception) -> str:
    if isinstance(item, bytes) and not item:
        return "empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image of {', '.join(FORMATS)}"
    if isinstance(error, BOMBS) and (found := re.search(r"\d+", str(error))):
        return f"{found[0]} pixels, at most {PIXELS} wanted"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


T = TypeVar("T")
BLOCK = 256
"""Images that a thread takes at a time: tiny ones cost less than the hand-over."""


def broken_error(name: str, reason: str) -> DataError:
    """The error for an image that cannot be decoded."""
    return DataError(
        f"image {name}: cannot be decoded ({reason}); replace it, or leave such images out with --set data.broken=skip"
    )


def find_broken(items: Sequence[Item], names: Sequence[str], look: Callable[[Item], object] = decode) -> dict[int, str]:
    """The reason for each row that `look` cannot make out; by default every image is decoded and dropped again."""
    return each_decoded(lambda row: look(items[row]) and None, len(names), "images checked")[1]


def digest_all(items: Sequence[Item], names: Sequence[str]) -> list[bytes]:
    """sha256 of each item (32 bytes). Raises DataError for the first that cannot be read."""
    digests, broken = each_decoded(lambda row: digest(items[row]), len(items), "images read")
    raise_first(broken, names)
    return [found for found in digests if found is not None]


def each_decoded(one: Callable[[int], T], rows: int, description: str) -> tuple[list[T | None], dict[int, str]]:
    """What `one` gives for each row, in a thread a processor, and why it could not where it raised Undecodable."""
    broken: dict[int, str] = {}

    def block(start: int) -> list[T | None]:
        return [guarded(row) for row in range(start, min(start + BLOCK, rows))]

    def guarded(row: int) -> T | None:
        try:
            return one(row)
        except Undecodable as error:
            broken[row] = str(error)
            return None

    results: list[T | None] = []
    with ThreadPoolExecutor(cpu_count()) as pool, track(rows, description, "images") as progress:
        for found in pool.map(block, range(0, rows, BLOCK)):
            results += found
            progress.advance(len(found))
    return results, broken


def raise_first(broken: dict[int, str], names: Sequence[str]) -> None:
    if broken:
        row = min(broken)
        raise broken_error(names[row], broken[row])
