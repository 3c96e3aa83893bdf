"""An image as a source holds it (a file, encoded bytes, an array) -> upright 8-bit RGB.

Grey is repeated, palettes are looked up, alpha is dropped, CMYK becomes (1 - C)(1 - K), and so on. Of images with several
frames or pages, the first is taken. The module `depth` says how more than 8 bits become 8.
"""

import io
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from pipeline.images.depth import FULL_SCALE, NO_PEAK, Peak, Scale, peak_of_reals
from pipeline.images.orientation import PNG, turn

PIXELS = 89_478_485
"""An image may have at most so many pixels: 256 MiB as RGB, where Pillow begins to warn."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats whose header says how large the image becomes. Of Pillow's others, EPS starts a program, icons hold whole files."""
BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)
DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of grey in 16 or 32 bits."""
GREY_AND_ALPHA = "LA;16B"
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""The tag of a TIFF that says what its values mean, and its value where 0 is white."""
PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt")


warnings.simplefilter("error", Image.DecompressionBombWarning)  # Pillow would go on after a line on stderr


Item = Path | bytes | NDArray[np.uint8]
"""A file, an encoded image, or decoded pixels (H, W, 3)."""


class Undecodable(Exception):
    """An image that cannot be decoded; the text says why."""


def decode(item: Item, scale: Scale = FULL_SCALE) -> Image.Image:
    """The item as upright 8-bit RGB; images of more than 8 bits by the data set's scale. Raises Undecodable."""
    try:
        if isinstance(item, np.ndarray):
            return Image.fromarray(item)
        with _load(item) as image:
            upright = turn(image)
            rgb = _rgb(item, image, scale)
            return rgb if upright is None else rgb.transpose(upright)
    except Exception as error:
        # Pillow's decoders raise a dozen types, SyntaxError and struct.error among them; all mean the same here.
        raise Undecodable(_reason(item, error)) from None


def probe(item: Item) -> tuple[int, int]:
    """Width and height as stored, read from the header alone. Raises Undecodable."""
    try:
        if isinstance(item, np.ndarray):
            return item.shape[1], item.shape[0]
        with _opened(item) as image:
            return image.size
    except Exception as error:
        raise Undecodable(_reason(item, error)) from None


def header(item: Item) -> tuple[int, int, str]:
    """Width and height as stored, and Pillow's name of the mode, such as RGB, L (grey), P (palette). Raises Undecodable."""
    try:
        if isinstance(item, np.ndarray):
            return item.shape[1], item.shape[0], "RGB"
        with _opened(item) as image:
            return image.width, image.height, _deep_mode(image) or image.mode
    except Exception as error:
        raise Undecodable(_reason(item, error)) from None


def is_turned(item: Path | bytes) -> bool:
    """Whether `decode` turns the image upright; not where it cannot be decoded."""
    try:
        with _opened(item) as image:
            return turn(image) is not None
    except Exception:
        return False


def is_inverted(item: Path | bytes) -> bool:
    """Whether `decode` inverts the image, as its file says that 0 is white; not of 8 bits, which Pillow inverts itself."""
    try:
        with _opened(item) as image:
            return _white_is_zero(image)
    except Exception:
        return False


def peak(item: Path | bytes) -> Peak:
    """The largest value that `Scale` decides about; none of 8-bit images, nor where the image cannot be decoded."""
    try:
        with _opened(item) as image:
            if _deep_mode(image):
                return Peak(int(_deep_colour(item).max(initial=0)))
            if image.mode == "F":
                return peak_of_reals(np.asarray(image))
            if _is_deep_grey(image):
                return Peak(int(np.asarray(image).max(initial=0)))
    except Exception:
        pass
    return NO_PEAK


def _opened(item: Path | bytes) -> ImageFile.ImageFile:
    """The image with its header read; a PNG whose texts are too long for Pillow is opened without them."""
    try:
        return _open(item)
    except ValueError:
        return _open(_without_texts(item))


def _load(item: Path | bytes, prepare: Callable[[ImageFile.ImageFile], None] = lambda image: None) -> Image.Image:
    """The image with its pixels decoded, and in its info, as `deep`, whether they have 16 bits a colour."""
    try:
        return _pixels(_open(item), prepare)
    except ValueError:
        # Texts may also stand behind the pixels.
        return _pixels(_open(_without_texts(item)), prepare)


def _pixels(image: ImageFile.ImageFile, prepare: Callable[[ImageFile.ImageFile], None]) -> Image.Image:
    try:
        image.info["deep"] = _deep_mode(image)
        prepare(image)
        image.load()
    except BaseException:
        image.close()
        raise
    return image


def _open(item: Path | bytes) -> ImageFile.ImageFile:
    image = Image.open(item if isinstance(item, Path) else io.BytesIO(item), formats=FORMATS)
    if (pixels := image.width * image.height) > PIXELS:
        image.close()
        raise Image.DecompressionBombError(f"{pixels} pixels")
    return image


def _without_texts(item: Path | bytes) -> bytes:
    """A PNG's bytes without its text chunks. Raises ValueError for any other file."""
    content = item if isinstance(item, bytes) else item.read_bytes()
    if not content.startswith(PNG):
        raise ValueError("not a PNG")
    parts, place = [PNG], len(PNG)
    while place < len(content):
        # A chunk is its length (4 bytes), its name (4), the content and a checksum (4).
        stop = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] not in PNG_TEXT:
            parts.append(content[place:stop])
        place = stop
    return b"".join(parts)


def _is_deep_grey(image: Image.Image) -> bool:
    """16 or 32 bits of grey; not in a portable grey map, which Pillow scales by the white that the file names."""
    return image.mode in DEEP_GREY and image.format != "PPM"


def _white_is_zero(image: Image.Image) -> bool:
    """Grey of more than 8 bits, or of floats, in a TIFF that names 0 as white; Pillow reads the values as they stand."""
    is_deep = image.mode in (*DEEP_GREY, "F")
    return is_deep and image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO  # type: ignore[attr-defined]


def _deep_mode(image: ImageFile.ImageFile) -> str:
    """Pillow's name for 16 bits a colour, of which it keeps the upper 8, else ""; known only before the pixels are loaded."""
    if image.format not in ("PNG", "TIFF") or image.mode in DEEP_GREY:
        return ""
    return next((_raw_mode(tile) for tile in image.tile if ";16" in _raw_mode(tile)), "")


def _raw_mode(tile: ImageFile._Tile) -> str:
    return str(tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args)


def _deep_colour(item: Path | bytes) -> NDArray[np.integer]:
    """Values of 16 bits (H, W, 1 or 3), without alpha."""
    with _load(item) as upper, _load(item, _read_lower) as lower:
        is_grey = upper.info["deep"] == GREY_AND_ALPHA
        upper_HWC = np.asarray(upper)[:, :, 0] if is_grey else np.asarray(upper.convert("RGB"))
        lower_HWC = np.asarray(lower)[:, :, 1] if is_grey else np.asarray(lower.convert("RGB"))
        return (upper_HWC.astype(np.uint16) * 256 + lower_HWC).reshape(upper.height, upper.width, -1)


def _read_lower(image: ImageFile.ImageFile) -> None:
    """Make Pillow keep the lower 8 bits of each 16: it is told the other byte order."""
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
    tiles = []
    for tile in image.tile:
        mode = _raw_mode(tile)
        # Grey with alpha in 16 bits has one byte order in Pillow, and is as long as 8-bit RGBA.
        new = "RGBA" if mode == GREY_AND_ALPHA else mode[:-1] + other[mode[-1]]
        tiles.append(tile._replace(args=(new, *tile.args[1:]) if isinstance(tile.args, tuple) else new))
        if mode == GREY_AND_ALPHA:
            image._mode = "RGBA"
    image.tile = tiles


def _rgb(item: Path | bytes, image: Image.Image, scale: Scale) -> Image.Image:
    if image.info.get("deep") and scale.integer < Scale.integer:
        values_HW3 = np.broadcast_to(_deep_colour(item), (image.height, image.width, 3))
        return Image.fromarray(scale.integers(values_HW3))
    if image.mode in DEEP_GREY:
        # Pillow clips these to 255 on conversion, which leaves white.
        own = scale if _is_deep_grey(image) else FULL_SCALE
        return _grey(own.integers(np.asarray(image)), image)
    if image.mode == "F":
        return _grey(scale.reals(np.asarray(image)), image)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _grey(values_HW: NDArray[np.uint8], image: Image.Image) -> Image.Image:
    return Image.fromarray(255 - values_HW if _white_is_zero(image) else values_HW).convert("RGB")


def _reason(item: Item, error: Exception) -> str:
    if isinstance(item, bytes) and not item:
        return "empty"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not an image of {', '.join(FORMATS)}"
    if isinstance(error, BOMBS) and (found := re.search(r"\d+", str(error))):
        return f"{found[0]} pixels, at most {PIXELS} wanted"
    return str(error).splitlines()[0] if str(error) else type(error).__name__
