"""An image as a source holds it (a file, encoded bytes, an array) -> 8-bit RGB."""

import hashlib
import io
import re
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
