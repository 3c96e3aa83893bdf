"""Image files written byte by byte, so that a test knows their content without a decoder."""

import struct
import zlib

import numpy as np

COLOUR_TYPES = {"grey": 0, "rgb": 2, "palette": 3, "grey-alpha": 4, "rgba": 6}


def png_chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values_HWC, kind, bits=8, palette=None, before=(), after=()):
    """A PNG (ISO/IEC 15948) of integers (H, W, channels) of so many bits; chunks before and after the pixels."""
    height, width, channels = values_HWC.shape
    head = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[kind], 0, 0, 0)
    rows = b""
    for row in values_HWC.reshape(height, width * channels):
        if bits == 16:
            packed = row.astype(">u2").tobytes()
        else:
            packed = np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8)).tobytes()
        rows += b"\0" + packed
    parts = [png_chunk(b"IHDR", head), *before]
    if palette is not None:
        parts.append(png_chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
    parts += [png_chunk(b"IDAT", zlib.compress(rows)), *after, png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


PHOTOMETRIC = {"white-is-zero": 0, "black-is-zero": 1, "rgb": 2, "cmyk": 5}
SAMPLE_FORMAT = {"u": 1, "i": 2, "f": 3}


def tiff(values_HWC, kind="black-is-zero", orientation=None):
    """An uncompressed little-endian TIFF (revision 6.0) of one strip, in the dtype of the values."""
    height, width, channels = values_HWC.shape
    content = values_HWC.astype(values_HWC.dtype.newbyteorder("<")).tobytes()
    bits = 8 * values_HWC.dtype.itemsize
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, [bits] * channels), 259: (3, [1])}
    tags |= {262: (3, [PHOTOMETRIC[kind]]), 273: (4, [8]), 277: (3, [channels]), 278: (4, [height])}
    tags |= {279: (4, [len(content)]), 339: (3, [SAMPLE_FORMAT[values_HWC.dtype.kind]] * channels)}
    if orientation is not None:
        tags[274] = (3, [orientation])
    extra, start = b"", 8 + len(content) + len(content) % 2
    entries = b""
    after = start + 2 + 12 * len(tags) + 4
    for tag, (form, values) in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(packed) > 4:
            entries += struct.pack("<HHII", tag, form, len(values), after + len(extra))
            extra += packed + b"\0" * (len(packed) % 2)
        else:
            entries += struct.pack("<HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + extra
    return b"II*\0" + struct.pack("<I", start) + content + b"\0" * (len(content) % 2) + directory


def exif(orientation):
    """An EXIF block that holds an orientation alone."""
    return b"Exif\0\0II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
