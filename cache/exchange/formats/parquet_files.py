"""Parquet, read a block of rows at a time. Features are a column of lists or arrays; other columns have one value a row."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from cache.errors import CacheInvalid
from cache.exchange.source import BLOCK_BYTES, WHOLE_BYTES, Source, SourceArray, native
from cache.exchange.texts import LENGTH, shown, sound
from cache.parquet import foreign, pages
from cache.reader import FeatureCache

RATIO = 1024
"""The most decoded bytes for each byte of a file. Labels in order shrink that far, features do not."""
REASON = 200
"""The most characters of an error of polars that are shown."""
PATH = re.compile("(image|img|file)?[_-]?(path|file|filename|url|image|img)", re.IGNORECASE)
"""How columns with images, or with paths of images, are called."""
HUB = "huggingface"
"""The key of the file's metadata under which data sets of Hugging Face describe their columns, as JSON."""
METADATA = "coattail"
"""The key of the file's metadata under which an export has its class names and the dtype of the features, as JSON."""


def open_parquet(path: Path, prefix: str) -> Source:
    """The columns of a file that are numbers, text, or lists of numbers. Other columns are passed over.

    Raises CacheInvalid for a file that is damaged, or too large once decoded.
    """
    _check_path(path)
    with _reading(path):
        foreign.check(path, RATIO)
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        rows = scan.select(pl.len()).collect().item()
        footer = pl.read_parquet_metadata(path)
        metadata, classes = _metadata(footer.get(METADATA)), _hub_classes(footer.get(HUB))
        half = metadata.get("dtype") == "float16"
        arrays = [_column(path, scan, name, dtype, rows, prefix, half) for name, dtype in schema.items()]
    passed_over = [
        f"{path}[{shown(name)}]"
        for name, dtype in schema.items()
        if isinstance(dtype, pl.Struct) or dtype == pl.Binary or (dtype == pl.String and PATH.fullmatch(name))
    ]
    named = (replace(array, classes=classes.get(array.local, ())) for array in arrays if array is not None)
    return Source(tuple(named), metadata, tuple(passed_over[:4]))


def _check_path(path: Path) -> None:
    """Raise CacheInvalid for a path that is not UTF-8, which polars cannot open."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise CacheInvalid(
            f"{path}: wanted a path in UTF-8 for Parquet, found {str(path)!r}; rename the file, or link to it"
        ) from None


def _column(
    path: Path, scan: pl.LazyFrame, local: str, dtype: pl.DataType, rows: int, prefix: str, half: bool
) -> SourceArray | None:
    """A column as an array; None where it is of a type that is not read."""
    where, name = f"{path}[{local}]", f"{prefix}/{local}" if prefix else local
    if isinstance(dtype, (pl.Array, pl.List)) and dtype.inner is not None and dtype.inner.is_numeric():
        return _features(path, scan, local, dtype, rows, name, half)
    if not (dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)):
        return None
    plain = dtype if dtype.is_numeric() or dtype == pl.Boolean else pl.String
    shown = "str" if plain == pl.String else str(pl.Series([], dtype=plain).to_numpy().dtype)

    def blocks() -> Iterator[NDArray[Any]]:
        with _reading(path):
            values = scan.select(pl.col(local).cast(plain)).collect()[local]
        if values.null_count():
            raise CacheInvalid(
                f"{where}: row {values.is_null().arg_max()} holds nothing; fill it, or leave the row out"
            )
        if plain != pl.String:
            yield values.to_numpy()
            return
        # In NumPy every text takes as much memory as the longest.
        lengths = values.str.len_chars()
        longest = lengths.max()
        if isinstance(longest, int) and longest > LENGTH:
            sound(where, values.filter(lengths == longest)[0])  # raises
        size = 4 * rows * longest if isinstance(longest, int) else 0
        if size > WHOLE_BYTES:
            raise CacheInvalid(
                f"{where}: wanted at most {WHOLE_BYTES >> 30} GiB of text, found {size >> 30}; shorten the longest"
            )
        yield np.array(values.to_list(), dtype=str)

    return SourceArray(name, where, (rows,), shown, blocks, local)


def _features(path: Path, scan: pl.LazyFrame, local: str, dtype: Any, rows: int, name: str, half: bool) -> SourceArray:
    where, column = f"{path}[{local}]", pl.col(local)
    missing_N = scan.select(column.is_null()).collect()[local].to_numpy()
    if isinstance(dtype, pl.Array):
        shape = (rows, *dtype.shape)
    else:
        lengths = scan.filter(column.is_not_null()).select(column.list.len()).head(1).collect()[local]
        shape = (rows, lengths[0] if len(lengths) else 0)
    number = {pl.Float32: "float32", pl.Float64: "float64"}.get(dtype.inner, str(dtype.inner).lower())
    number = "float16" if half and number == "float32" else number
    width = int(np.prod(shape[1:]))
    size = max(1, BLOCK_BYTES // max(1, width * 8))

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, rows, size):
            with _reading(path):
                values = scan.select(column).slice(start, size).collect()[local]
            if isinstance(dtype, pl.List):
                values = _even(values, width, where, start)
            block = native(values.to_numpy())
            stored = block.astype(number)
            if half and not np.array_equal(stored.astype(block.dtype), block, equal_nan=True):
                raise CacheInvalid(
                    f"{where}: the file says float16, but rows from {start} on hold other numbers; write it again"
                )
            yield stored

    return SourceArray(name, where, shape, number, blocks, local, missing_N if missing_N.any() else None)


def _even(values: pl.Series, width: int, where: str, start: int) -> pl.Series:
    """Lists as arrays of `width` numbers; CacheInvalid where a list has another length."""
    lengths = values.list.len().fill_null(width)
    other = (lengths != width).arg_max()
    if other is not None and lengths[other] != width:
        raise CacheInvalid(
            f"{where}: row {start + other}: wanted {width} numbers as in the first row, found {lengths[other]}"
        )
    return values.list.to_array(width)


def _metadata(text: str | None) -> dict[str, str]:
    """The texts in a JSON object; none where the text is no such object."""
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in content.items() if isinstance(value, str)} if isinstance(content, dict) else {}


def _hub_classes(text: str | None) -> dict[str, tuple[str, ...]]:
    """The class names of each column, if the metadata is that of a Hugging Face data set."""
    try:
        columns = json.loads(text or "{}")["info"]["features"]
        return {name: tuple(map(str, about["names"])) for name, about in columns.items() if "names" in about}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn an error of polars inside into a CacheInvalid of one line."""
    try:
        yield
    except (pages.Unfit, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        reason = str(error).split("\n")[0][:REASON]
        raise CacheInvalid(f"{path}: not Parquet, or damaged ({reason}); save or copy the file again") from None


def write_parquet(
    path: Path, cache: FeatureCache, chosen: dict[str, list[str]], advance: Callable[[int], None]
) -> None:
    """Write a row for each sample, one split after another. A view that a split does not have is null there."""
    identity = cache.manifest.identity
    views = sorted({view for names in chosen.values() for view in names})
    vector = pl.Array(pl.Float32, identity.width)
    text = {"split": pl.String(), "sample_id": pl.String(), "label": pl.Int64(), "class_name": pl.String()}
    schema = pl.Schema({**text, **{_column_of(view): vector for view in views}})
    manifest = cache.manifest
    step = manifest.rows_per_chunk * max(1, BLOCK_BYTES // (manifest.raw_chunk_bytes * len(views)))

    def frames() -> Iterator[pl.DataFrame]:
        for split, names in chosen.items():
            table = cache.rows(split).select("sample_id", "label")
            table = table.with_columns(
                pl.lit(split).alias("split"), pl.Series("class_name", [cache.classes[c] for c in table["label"]])
            )
            for start in range(0, len(table), step):
                rows = table.slice(start, step)
                columns = [_vectors(cache, split, view, start, len(rows), view in names, vector) for view in views]
                yield rows.with_columns(columns).select(schema.names())
                advance(len(rows) * len(names))

    stopped: list[BaseException] = []

    def source(*_: Any) -> Iterator[pl.DataFrame]:
        try:
            yield from frames()
        except BaseException as error:  # polars keeps only its text
            stopped.append(error)
            raise

    metadata = json.dumps({"classes": json.dumps(cache.classes), "dtype": identity.dtype})
    scan = register_io_source(source, schema=schema)
    try:
        scan.sink_parquet(path, row_group_size=step, statistics=False, metadata={METADATA: metadata})
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        if stopped:
            raise stopped[0] from None
        raise OSError(str(error).split("\n")[0]) from None


def _vectors(
    cache: FeatureCache, split: str, view: str, start: int, rows: int, there: bool, vector: pl.Array
) -> pl.Series:
    if not there:
        return pl.Series(_column_of(view), [None] * rows, dtype=vector)
    features_BD = cache.slice(split, view, start, start + rows).astype(np.float32)
    return pl.Series(_column_of(view), features_BD, dtype=vector)


def _column_of(view: str) -> str:
    return "features" if view == "clean" else view
