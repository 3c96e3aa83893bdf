"""Parquet, a block of rows at a time: features are a list or an array column, the rest one value a row."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from cache.errors import CacheInvalid
from cache.exchange.source import BLOCK_BYTES, WHOLE_BYTES, Source, SourceArray, native
from cache.exchange.texts import shown
from cache.parquet import foreign, pages
from cache.reader import FeatureCache

RATIO = 1024
"""Decoded bytes a byte of the file: labels in order shrink far, features do not."""
REASON = 200
"""Characters of polars' error that are shown."""
PATH = re.compile("(image|img|file)?[_-]?(path|file|filename|url|image|img)", re.IGNORECASE)
"""What columns with the paths of images are called."""
HUB = "huggingface"
"""The key, in the file's metadata, under which Hugging Face's data sets describe their columns, as JSON."""
METADATA = "coattail"
"""The key, in the file's metadata, of what an export says of itself: class names and the features' dtype, as JSON."""


def open_parquet(path: Path, prefix: str) -> Source:
    """The columns of the file that are numbers, text, or lists of numbers; others are passed over."""
    _check_path(path)
    with _reading(path):
        foreign.check(path, RATIO)
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        rows = scan.select(pl.len()).collect().item()
        said = pl.read_parquet_metadata(path)
        metadata, classes = _metadata(said.get(METADATA)), _hub_classes(said.get(HUB))
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
    """Raises CacheInvalid for a path that is no UTF-8, which polars does not take."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise CacheInvalid(
            f"{path}: wanted a path in UTF-8 for Parquet, found {str(path)!r}; rename it, or link to it"
        ) from None


def _column(
    path: Path, scan: pl.LazyFrame, local: str, dtype: pl.DataType, rows: int, prefix: str, half: bool
) -> SourceArray | None:
    where, name = f"{path}[{local}]", f"{prefix}/{local}" if prefix else local
    if isinstance(dtype, (pl.Array, pl.List)) and dtype.inner is not None and dtype.inner.is_numeric():
        return _features(path, scan, local, dtype, rows, name, half)
    if not (dtype.is_integer() or dtype.is_float() or dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum)):
        return None
    plain = dtype if dtype.is_numeric() or dtype == pl.Boolean else pl.String
    shown = "str" if plain == pl.String else str(pl.Series([], dtype=plain).to_numpy().dtype)

    def blocks() -> Iterator[np.ndarray]:
        with _reading(path):
            values = scan.select(pl.col(local).cast(plain)).collect()[local]
        if values.null_count():
            raise CacheInvalid(f"{where}: row {values.is_null().arg_max()} holds nothing; fill it or leave the row out")
        if plain != pl.String:
            yield values.to_numpy()
            return
        # NumPy gives every text the room of the longest.
        longest = values.str.len_chars().max()
        size = 4 * rows * longest if isinstance(longest, int) else 0
        if size > WHOLE_BYTES:
            raise CacheInvalid(
                f"{where}: {size >> 30} GiB of text, at most {WHOLE_BYTES >> 30} wanted; shorten the longest"
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

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, rows, size):
            with _reading(path):
                values = scan.select(column).slice(start, size).collect()[local]
            if isinstance(dtype, pl.List):
                values = _even(values, width, where, start)
            found = native(values.to_numpy())
            stored = found.astype(number)
            if half and not np.array_equal(stored.astype(found.dtype), found, equal_nan=True):
                raise CacheInvalid(
                    f"{where}: the file says float16, but rows from {start} on hold more; write it again"
                )
            yield stored

    return SourceArray(name, where, shape, number, blocks, local, missing_N if missing_N.any() else None)


def _even(values: pl.Series, width: int, where: str, start: int) -> pl.Series:
    lengths = values.list.len().fill_null(width)
    other = (lengths != width).arg_max()
    if other is not None and lengths[other] != width:
        raise CacheInvalid(
            f"{where}: row {start + other} has {lengths[other]} numbers, wanted {width} as in the first row"
        )
    return values.list.to_array(width)


def _metadata(text: str | None) -> dict[str, str]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}


def _hub_classes(text: str | None) -> dict[str, tuple[str, ...]]:
    """The class names of each column, where the metadata is that of a Hugging Face data set; else none."""
    try:
        columns = json.loads(text or "{}")["info"]["features"]
        return {name: tuple(map(str, about["names"])) for name, about in columns.items() if "names" in about}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pages.Unfit, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        reason = str(error).split("\n")[0][:REASON]
        raise CacheInvalid(f"{path}: not Parquet, or damaged ({reason}); save or copy the file again") from None


def write_parquet(
    path: Path, cache: FeatureCache, chosen: dict[str, list[str]], advance: Callable[[int], None]
) -> None:
    """One row a sample, split after split; a view that a split has not is null there."""
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
        except BaseException as error:  # polars would make text of it
            stopped.append(error)
            raise

    said = json.dumps({"classes": json.dumps(cache.classes), "dtype": identity.dtype})
    scan = register_io_source(source, schema=schema)
    try:
        scan.sink_parquet(path, row_group_size=step, statistics=False, metadata={METADATA: said})
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
