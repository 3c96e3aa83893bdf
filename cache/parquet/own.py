"""A limit on the Parquet tables of a cache, by the sizes that their footer and page headers state.

Both are structs of Thrift's compact protocol (Apache Parquet, parquet.thrift; Apache Thrift, thrift-compact-protocol.md). What
the footer says of sizes may be false. A page is decompressed to the size in its own header, so those sizes are added up.
"""

from typing import Any

from cache.parquet.pages import COLUMNS, OUTSIDE, VALUE_BYTES, Pages, Unfit, parse

FOOTER_LIMIT = 1 << 20
ROW_BYTES = 4096
"""How many decoded bytes a table may take for each of its rows, beside BASE_BYTES."""
RATIO = 1024
"""How many decoded bytes a table may take for each byte of its file, beside BASE_BYTES. A million ids 0, 1, … took 64."""
BASE_BYTES = 1 << 20
PAGE_BYTES = 256
"""A file may have one page for each so many of its bytes, and COLUMNS more."""
TYPES = {0: "boolean", 1: "int32", 2: "int64", 4: "float", 5: "double", 6: "byte array"}
CODECS = {0: "none", 6: "zstd"}
ENCODINGS = {0: "plain", 2: "dictionary", 3: "rle", 8: "dictionary"}
"""The encodings that polars writes. `delta byte array` (7) is not read: with it a short page can hold very long texts."""


def allowed_bytes(rows: int) -> int:
    """The most bytes that a table of N = `rows` rows may take, in its file and once decoded."""
    return BASE_BYTES + ROW_BYTES * rows


def check(content: bytes, rows: int) -> None:
    """Raise Unfit where the table would take more bytes once decoded than its rows, or the size of its file, allow."""
    decoded, limit = decoded_bytes(content, rows), min(allowed_bytes(rows), BASE_BYTES + RATIO * len(content))
    if decoded > limit:
        raise Unfit(
            f"wanted at most {limit} bytes once decoded for {rows} rows in {len(content)} bytes, found {decoded}"
        )


def decoded_bytes(content: bytes, rows: int) -> int:
    """About how many bytes polars allocates to decode a table of N rows. Raises Unfit for a file that is no such table."""
    try:
        footer = parse(content, FOOTER_LIMIT)
        if footer[3] != rows or sum(group[3] for group in footer[4]) != rows:
            raise Unfit(f"wanted {rows} rows, found {footer[3]}")
        columns = _columns(footer[2])
        pages = Pages(content, ENCODINGS, PAGE_BYTES)
        return sum(_group_bytes(group, columns, pages) for group in footer[4])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unfit("no Parquet footer, or not one of a table that coattail writes") from None


def _columns(schema: list[dict[int, Any]]) -> int:
    root, *columns = schema
    if root[5] != len(columns) or not 0 < len(columns) <= COLUMNS:
        raise Unfit(f"wanted at most {COLUMNS} flat columns, found {len(columns)}, or nested ones")
    for column in columns:
        if column.get(5) or column.get(3) not in (0, 1) or column.get(1) not in TYPES:
            raise Unfit("wanted flat columns of numbers or text, found others")
    return len(columns)


def _group_bytes(group: dict[int, Any], columns: int, pages: "Pages") -> int:
    if len(group[1]) != columns:
        raise Unfit(f"wanted {columns} columns a row group, found {len(group[1])}")
    return sum(_column_bytes(chunk, group[3], pages) for chunk in group[1])


def _column_bytes(chunk: dict[int, Any], rows: int, pages: "Pages") -> int:
    about = chunk[3]
    if 1 in chunk or about[4] not in CODECS or about[5] != rows:
        raise Unfit("wanted columns of this file, plain or zstd, a value a row; found others")
    start = about.get(11, about[9])
    if not start <= about[9] < start + about[7]:
        raise Unfit(OUTSIDE)
    total, values = pages.sums(start, about[7])
    if values != rows:
        raise Unfit(f"wanted {rows} values in a column's pages, found {values}")
    return total + VALUE_BYTES * values
