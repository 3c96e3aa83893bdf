"""The pages of a Parquet file: how many bytes and values each holds, by its own header.

A column lies in the file as pages, one after another. A page is data, or a dictionary that the data refer to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from mmap import mmap
from typing import Any

Content = bytes | mmap
MAGIC = b"PAR1"
COLUMNS = 32
"""The most columns of a table of a cache."""
VALUE_BYTES = 16
"""Bytes of a decoded value. In polars a text takes as many beside its characters."""
DATA, DICTIONARY, DATA_V2 = 0, 2, 3
OUTSIDE = "wanted a column's pages inside the file, found them outside"


class Unfit(Exception):
    """Raised for a file that is damaged, is not Parquet, or would take too many bytes. The text says which."""


def parse(content: Content, limit: int) -> dict[int, Any]:
    """The footer of a Parquet file, as a value for each number of a field.

    Raises Unfit, or IndexError, where there is none of at most `limit` bytes.
    """
    length = int.from_bytes(content[-8:-4], "little")
    if content[:4] != MAGIC or content[-4:] != MAGIC or not 0 < length <= min(limit, len(content) - 12):
        raise Unfit("no Parquet file, or its footer is too long")
    return _Thrift(content, len(content) - 8 - length, len(content) - 8).struct()


@dataclass(frozen=True)
class _Page:
    bytes: int
    """The size of the page once decompressed."""
    values: int
    """How many values the page holds; 0 for a dictionary."""


class Pages:
    """The pages of a file, a column at a time and in any order.

    Unfit is raised for more than one page for each `page_bytes` bytes of the file. Columns that overlap are refused too, so
    that no part of the file is read twice.
    """

    def __init__(self, content: Content, encodings: Mapping[int, str], page_bytes: int) -> None:
        self._content, self._encodings = content, encodings
        self._left = COLUMNS + len(content) // page_bytes
        self._unread = len(content)

    def sums(self, start: int, size: int) -> tuple[int, int]:
        """How many bytes once decompressed, and how many values, the pages in `size` bytes from `start` on have."""
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
    """Reads Thrift's compact protocol: a struct as {number of the field: value}, a list as a list.

    Of text and bytes only the length is kept, because statistics may hold whole images. Raises IndexError for a struct that
    does not end before `stop`.
    """

    def __init__(self, content: Content, place: int, stop: int) -> None:
        self._content, self.place, self._stop = content, place, stop

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            before = number
            number = number + (head >> 4) if head >> 4 else self._signed()
            # Readers differ in how they take a field that stands twice or out of order.
            if number <= before or depth > 8:
                raise Unfit("its fields are out of order, or nested too deep")
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth)
        return fields

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
            if count > self._stop - self.place:  # an element takes at least one byte
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
        number = shift = 0
        while shift < 70:
            byte = self._byte()
            number |= (byte & 127) << shift
            if byte < 128:
                return number
            shift += 7
        raise IndexError

    def _signed(self) -> int:
        zigzag = self._unsigned()
        return zigzag >> 1 ^ -(zigzag & 1)
