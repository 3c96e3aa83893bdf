"""How large a Parquet file that others wrote becomes: counted from its footer and pages, whatever the codec and nesting."""

import mmap
from pathlib import Path
from typing import Any

from cache.parquet import own
from cache.parquet import pages as footer_pages
from cache.parquet.pages import VALUE_BYTES, Pages, Unfit

FOOTER_LIMIT = 64 << 20
"""Some writers put the least and the greatest image of each row group into its statistics."""
BASE_BYTES = 256 << 20
"""Decoded bytes that any file may take."""
PAGE_BYTES = 32
"""There may be a page for every so many bytes of the file."""
ENCODINGS = own.ENCODINGS | {4: "bit packed", 5: "delta", 6: "delta length", 9: "byte stream split"}
"""All but `delta byte array` (7), which makes long texts of short pages."""
FIXED = 7
"""The type of values that have a length of their own, which stands in the schema."""


def allowed_bytes(size: int, ratio: int) -> int:
    """What a file of so many bytes may take, decoded: `ratio` bytes for one of the file."""
    return BASE_BYTES + ratio * size


def check(path: Path, ratio: int) -> None:
    """Raises Unfit where decoding would take more than is allowed, OSError where the file cannot be read."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise Unfit("empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found, limit = decoded_bytes(content), allowed_bytes(len(content), ratio)
            if found > limit:
                raise Unfit(f"{found} bytes once decoded, at most {limit} wanted of {len(content)} in the file")


def decoded_bytes(content: footer_pages.Content) -> int:
    """What polars allocates, about, to decode all of it. Raises Unfit for what is no Parquet file."""
    try:
        found = footer_pages.parse(content, FOOTER_LIMIT)
        groups = found[4]
        if found[3] != sum(group[3] for group in groups):
            raise Unfit(f"wanted {found[3]} rows in its groups, found others")
        widths = [max(VALUE_BYTES, leaf[2] if leaf[1] == FIXED else 0) for leaf in found[2][1:] if not leaf.get(5)]
        pages = Pages(content, ENCODINGS, PAGE_BYTES)
        return sum(
            _chunk_bytes(chunk, group[3], width, pages)
            for group in groups
            for chunk, width in zip(group[1], widths, strict=True)
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        raise Unfit("no Parquet footer, or a damaged one") from None


def _chunk_bytes(chunk: dict[int, Any], rows: int, width: int, pages: Pages) -> int:
    about = chunk[3]
    if 1 in chunk:
        raise Unfit("wanted columns of this file, found one of another")
    if not rows and not about[7]:
        return 0
    total, values = pages.sums(about.get(11, about[9]), about[7])
    # Of a list each element is a value, and an empty one is a value too.
    if not 0 <= rows <= values or about[5] != values:
        raise Unfit(f"wanted {about[5]} values in a column's pages, {rows} or more, found {values}")
    return total + width * values
