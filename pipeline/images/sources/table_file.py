"""A table in a file (CSV, TSV, JSON lines, Parquet, COCO's JSON) -> a polars frame, its separator and its header found."""

import csv
import io
import stat
from pathlib import Path

import polars as pl

from cache.parquet import foreign
from pipeline.errors import DataError
from pipeline.images.sources.annotations import annotations_table
from pipeline.images.sources.folder import SUFFIXES
from pipeline.images.sources.parquet_images import RATIO, UNREADABLE
from pipeline.images.sources.source import SHOWN

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab")
LINE_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *LINE_SUFFIXES, ".json", ".parquet")
TABLE_BYTES = 512 << 20
"""A table of text may have at most so many bytes: 14 million paths of ImageNet-21k take about 400 MiB."""
SEPARATORS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", " ": "space"}
"""In the order in which they are tried."""
LINES_SEEN = 20
"""Lines that the separator and the header are found from."""


def read_table(key: str, file: Path) -> pl.DataFrame:
    """All rows of the table. CSV and TSV columns are text; JSON lines and Parquet keep their types.

    Raises DataError, naming the setting `key` and the file, for what is no table of these kinds.
    """
    suffix = file.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(f"{key} {file}: wanted a table ({', '.join(TABLE_SUFFIXES)}), found {suffix or 'no suffix'}")
    try:
        about = file.stat()
        if not stat.S_ISREG(about.st_mode):
            raise DataError(f"{key} {file}: wanted a table, found no plain file")
        if suffix == ".parquet":
            foreign.check(file, RATIO)
            return pl.read_parquet(file, glob=False)
        if about.st_size > TABLE_BYTES:
            raise DataError(f"{key} {file}: wanted a table of at most {TABLE_BYTES} bytes, found {about.st_size}")
        if suffix == ".json":
            return annotations_table(f"{key} {file}", file)
        content = file.read_bytes()
        if suffix in LINE_SUFFIXES:
            frame = pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)
        else:
            frame = _separated(key, file, _decoded(key, file, content))
    except (OSError, *UNREADABLE) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{key} {file}: cannot be read as a table ({reason})") from None
    if not frame.height:
        raise DataError(f"{key} {file}: wanted a row an image, found no row")
    return frame


def _decoded(key: str, file: Path, content: bytes) -> str:
    """The text: UTF-8, or UTF-16 where it begins with a byte order mark, as some programs of Windows write it."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(f"{key} {file}: line {line}: wanted text in UTF-8; save the table as UTF-8") from None


def _separated(key: str, file: Path, text: str) -> pl.DataFrame:
    lines = [line for line in text[: 1 << 20].splitlines() if line.strip()][:LINES_SEEN]
    if not lines:
        raise DataError(f"{key} {file}: wanted a row an image, found no row")
    separator = _separator(lines)
    if separator is None:
        raise DataError(
            f"{key} {file}: wanted columns separated by {', '.join(SEPARATORS.values())}, found no such separator that gives "
            f"every line as many columns; line 1 is {lines[0][:SHOWN]!r}"
        )
    header = has_header(next(csv.reader([lines[0]], delimiter=separator)))
    frame = pl.read_csv(io.StringIO(text), separator=separator, has_header=header, infer_schema=False)
    return frame.rename({name: name.strip() for name in frame.columns})


def _separator(lines: list[str]) -> str | None:
    """The separator that gives each of the lines the same number of columns, two or more."""
    for separator in SEPARATORS:
        widths = {len(row) for row in csv.reader(lines, delimiter=separator)}
        if len(widths) == 1 and widths.pop() > 1:
            return separator
    return None


def has_header(cells: list[str]) -> bool:
    """Whether the first line names columns: none of its cells is the name of an image file, or a number."""
    return not any(is_image(cell) or cell.strip().lstrip("-").isdecimal() for cell in cells)


def is_image(text: str) -> bool:
    """Whether a text is the path of an image file, by its suffix."""
    return text[text.rfind(".") :].strip().lower() in SUFFIXES if "." in text else False
