"""A limit on Parquet files that other programs wrote, by the sizes that their footer and pages state."""

import mmap
from pathlib import Path
from typing import Any

from cache.parquet import own
from cache.parquet import pages as footer_pages
from cache.parquet.pages import VALUE_BYTES, Pages, Unfit

FOOTER_LIMIT = 64 << 20
"""The most bytes of a footer that are read. Some programs write whole images into the statistics of each row group."""
BASE_BYTES = 256 << 20
"""How many decoded bytes every file may take, however small it is."""
PAGE_BYTES = 32
"""A file may have one page for each so many of its bytes."""
ENCODINGS = own.ENCODINGS | {4: "bit packed", 5: "delta", 6: "delta length", 9: "byte stream split"}
"""The encodings that are read. `delta byte array` (7) is not: with it a short page can hold very long texts."""
FIXED = 7
"""The number of the type `fixed length byte array`. The schema says how long its values are."""


def allowed_bytes(size: int, ratio: int) -> int:
    """The most bytes that a file may take once decoded: BASE_BYTES, and `ratio` for each of its `size` bytes."""
    return BASE_BYTES + ratio * size


def check(path: Path, ratio: int) -> None:
    """Raise Unfit where the file would take more than `allowed_bytes` once decoded, OSError where it cannot be read."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise Unfit("empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            decoded, limit = decoded_bytes(content), allowed_bytes(len(content), ratio)
            if decoded > limit:
                raise Unfit(f"wanted at most {limit} bytes once decoded of {len(content)} in the file, found {decoded}")


def decoded_bytes(content: footer_pages.Content) -> int:
    """About how many bytes polars allocates to decode the whole file. Raises Unfit for a file that is not Parquet."""
    try:
        footer = footer_pages.parse(content, FOOTER_LIMIT)
        groups = footer[4]
        if footer[3] != sum(group[3] for group in groups):
            raise Unfit(f"wanted {footer[3]} rows in its row groups, found another number")
        widths = [max(VALUE_BYTES, leaf[2] if leaf[1] == FIXED else 0) for leaf in footer[2][1:] if not leaf.get(5)]
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
    # Each element of a list counts as a value, and an empty list counts as one.
    if not 0 <= rows <= values or about[5] != values:
        raise Unfit(f"wanted {about[5]} values in a column's pages, {rows} or more, found {values}")
    return total + width * values
