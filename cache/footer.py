"""How large a Parquet file becomes: counted from its footer and the header of every page, before anything is decoded.

Both are structs of Thrift's compact protocol (Apache Parquet, parquet.thrift; Apache Thrift, thrift-compact-protocol.md). A
footer may say anything; a page is decompressed to what its own header says, so that those are what is added up.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

Content = bytes | mmap

MAGIC = b"PAR1"
FOOTER_LIMIT = 1 << 20
ROW_BYTES = 4096
"""Decoded bytes a row that a table may take, over BASE_BYTES."""
RATIO = 1024
"""Decoded bytes a byte of the file, over BASE_BYTES; 64 were measured at a million rows of ids that count."""
BASE_BYTES = 1 << 20
COLUMNS = 32
VALUE_BYTES = 16
"""Of a decoded value, and what a text takes beside its characters in polars."""
PAGE_BYTES = 256
"""There may be a page for every so many bytes of the file, and COLUMNS more."""
TYPES = {0: "boolean", 1: "int32", 2: "int64", 4: "float", 5: "double", 6: "byte array"}
CODECS = {0: "none", 6: "zstd"}
ENCODINGS = {0: "plain", 2: "dictionary", 3: "rle", 8: "dictionary"}
"""Those that polars writes; `delta byte array` (7) would make long texts of short pages."""
DATA, DICTIONARY, DATA_V2 = 0, 2, 3
OUTSIDE = "wanted a column's pages inside the file, found them outside"


class Unfit(Exception):
    """What is wrong with a file."""


def allowed_bytes(rows: int) -> int:
    """What the table of N rows may take, as a file and decoded."""
    return BASE_BYTES + ROW_BYTES * rows


def check(content: bytes, rows: int) -> None:
    """Raises Unfit where decoding would take more than N rows, or the bytes that are there, allow."""
    found, limit = decoded_bytes(content, rows), min(allowed_bytes(rows), BASE_BYTES + RATIO * len(content))
    if found > limit:
        raise Unfit(f"{found} bytes once decoded, at most {limit} wanted for {rows} rows in {len(content)} bytes")


def decoded_bytes(content: bytes, rows: int) -> int:
    """What polars allocates, about, to decode a table of N rows and flat columns. Raises Unfit for any other file."""
    try:
        footer = parse(content, FOOTER_LIMIT)
        if footer[3] != rows or sum(group[3] for group in footer[4]) != rows:
            raise Unfit(f"wanted {rows} rows, found {footer[3]}")
        columns = _columns(footer[2])
        pages = Pages(content, ENCODINGS, PAGE_BYTES)
        return sum(_group_bytes(group, columns, pages) for group in footer[4])
    except (KeyError, IndexError, TypeError, AttributeError):
        raise Unfit("no Parquet footer, or not one of a table like ours") from None


def parse(content: Content, limit: int) -> dict[int, Any]:
    """The footer of a Parquet file, by the numbers of its fields; Unfit or IndexError where there is none within `limit`."""
    length = int.from_bytes(content[-8:-4], "little")
    if content[:4] != MAGIC or content[-4:] != MAGIC or not 0 < length <= min(limit, len(content) - 12):
        raise Unfit("no Parquet file, or its footer is too long")
    return _Thrift(content, len(content) - 8 - length, len(content) - 8).struct()


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


@dataclass(frozen=True)
class _Page:
    bytes: int
    """Once decompressed."""
    values: int
    """0 in a dictionary."""


class Pages:
    """Every page of a file, in any order; there may not be more than one for `page_bytes` bytes of the file.

    Columns that lie over each other are refused, so that all headers together take no longer than the file.
    """

    def __init__(self, content: Content, encodings: Mapping[int, str], page_bytes: int) -> None:
        self._content, self._encodings = content, encodings
        self._left = COLUMNS + len(content) // page_bytes
        self._unread = len(content)

    def sums(self, start: int, size: int) -> tuple[int, int]:
        """Bytes, once decompressed, and values of the pages that take `size` bytes from `start` on."""
        self._unread -= size
        if start < len(MAGIC) or size <= 0 or self._unread < 0:
            raise Unfit(OUTSIDE)
        total = values = 0
        for page in self._between(start, start + size):
            total += page.bytes
            values += page.values
        return total, values

    def _between(self, start: int, stop: int) -> Iterator[_Page]:
        while start < stop <= len(self._content):
            thrift = _Thrift(self._content, start, stop)
            header = thrift.struct()
            start = thrift.place + header[3]
            self._left -= 1
            if self._left < 0 or header[2] < 0 or header[3] < 0:
                raise Unfit("too many pages, or one of less than no bytes")
            yield _page(header, self._encodings)
        if start != stop:
            raise Unfit(OUTSIDE)


def _page(header: dict[int, Any], encodings: Mapping[int, str]) -> _Page:
    size, kind = header[2], header[1]
    if kind not in (DATA, DICTIONARY, DATA_V2):
        raise Unfit(f"a page of kind {kind}")
    about = header[{DATA: 5, DICTIONARY: 7, DATA_V2: 8}[kind]]
    if about[4 if kind == DATA_V2 else 2] not in encodings:
        raise Unfit("a page of an encoding that is not read here")
    if about[1] < 0 or (kind == DICTIONARY and about[1] > size):
        raise Unfit(f"a page of {size} bytes with {about[1]} values")
    return _Page(size + VALUE_BYTES * about[1], 0) if kind == DICTIONARY else _Page(size, about[1])


class _Thrift:
    """Compact structs as {field: value}, lists as lists; IndexError where one goes on after `stop`.

    Of text and bytes only the length is taken: statistics may hold whole images.
    """

    def __init__(self, content: Content, place: int, stop: int) -> None:
        self._content, self.place, self._stop = content, place, stop

    def struct(self, depth: int = 0) -> dict[int, Any]:
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            before = number
            number = number + (head >> 4) if head >> 4 else self._signed()
            if (
                number <= before or depth > 8
            ):  # a field that stands twice, or out of order, is read in more than one way
                raise Unfit("its fields are out of order, or nested too deep")
            kind = head & 15
            found[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (7, 8):
            length = 8 if kind == 7 else self._unsigned()
            self.place += length
            if self.place > self._stop:
                raise IndexError
            return length
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            if count > self._stop - self.place:  # an element is at least a byte
                raise IndexError
            return [self._value(head & 15, depth + 1) for _ in range(count)]
        if kind == 12:
            return self.struct(depth + 1)
        raise Unfit(f"a field of kind {kind}")

    def _byte(self) -> int:
        if self.place >= self._stop:
            raise IndexError
        self.place += 1
        return self._content[self.place - 1]

    def _unsigned(self) -> int:
        found = shift = 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
        raise IndexError

    def _signed(self) -> int:
        found = self._unsigned()
        return found >> 1 ^ -(found & 1)
