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
MARKS = (b"Exif", b"eXIf", b"EXIF", b"exif", b"XMP", b"adobe")
"""A file that holds none of these has no orientation: JPEG, PNG and WebP write it behind one of them, EXIF or XMP."""

warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # such an image is taken as it is


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright; None where it is upright, or its EXIF cannot be read.

    Of TIFF it is always None: Pillow turns those itself as it loads them, and always did.
    """
    if image.format == "TIFF":
        return None
    try:
        return TURNS.get(image.getexif().get(TAG, 1))
    except Exception:
        # Of damaged EXIF, Pillow raises whatever its parser meets; the pixels may be sound.
        return None
