"""EXIF orientation: how a camera was held. A photograph is turned upright before anything else is done to it.

A cache's key says so (`transform.orientation: exif`) only where an image of its data set is in fact turned. So caches of
data sets without such images keep the keys of versions that turned none.
"""

import warnings

from PIL import Image

TAG = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image of each orientation upright (EXIF 2.32, table 6); 1 is upright already."""
FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
"""Formats whose EXIF is read. MPO is what Pillow calls a JPEG of several pictures. Of TIFF, Pillow turns every image as it
loads it, and always did."""
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
APP1, START_OF_SCAN = 0xE1, 0xDA
WEBP_FLAGS = 0x0C
"""Bits of WebP's extended header that say that the file holds EXIF, or XMP."""
TEXTS = (b"Raw profile type", b"XML:com.adobe.xm")
"""The first 16 bytes of PNG texts in which EXIF or XMP may stand."""

warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # such an image is taken as it is


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright; None where it is upright, or its EXIF cannot be read."""
    if image.format not in FORMATS:
        return None
    try:
        return TURNS.get(image.getexif().get(TAG, 1))
    except Exception:
        # Of damaged EXIF, Pillow raises whatever its parser meets; the pixels may be sound.
        return None


def may_be_turned(content: bytes) -> bool:
    """Whether an encoded image has a place for EXIF or XMP, by its parts' headers alone: far less work than to open it."""
    if content.startswith(JPEG):
        return _jpeg_has_app1(content)
    if content.startswith(PNG):
        return _png_has_exif(content)
    return content[8:16] == b"WEBPVP8X" and len(content) > 20 and bool(content[20] & WEBP_FLAGS)


def _jpeg_has_app1(content: bytes) -> bool:
    place = len(JPEG)
    while content[place : place + 1] == b"\xff" and place + 4 <= len(content):
        marker = content[place + 1]
        if marker == START_OF_SCAN:
            return False
        if marker == APP1:
            return True
        if marker == 0xFF:  # a byte to fill up
            place += 1
        else:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return True  # of parts in another form than usual, Pillow knows more


def _png_has_exif(content: bytes) -> bool:
    place = len(PNG)
    while place < len(content):
        kind, start = content[place + 4 : place + 8], content[place + 8 : place + 24]
        if kind == b"eXIf" or (kind in (b"tEXt", b"zTXt", b"iTXt") and start in TEXTS):
            return True
        place += 12 + int.from_bytes(content[place : place + 4], "big")
    return False
