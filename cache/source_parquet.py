"""Parquet, a block of rows at a time: features are a list or an array column, the rest one value a row."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cache import foreign
from cache.errors import CacheInvalid
from cache.sources import BLOCK_BYTES, Source, SourceArray, native

RATIO = 1024
"""Decoded bytes a byte of the file: labels in order shrink far, features do not."""
METADATA = "coattail"
"""The key, in the file's metadata, of what an export says of itself: class names and the features' dtype, as JSON."""


def open_parquet(path: Path, prefix: str) -> Source:
    """The columns of the file that are numbers, text, or lists of numbers; others are passed over."""
    with _reading(path):
        foreign.check(path, RATIO)
        scan = pl.scan_parquet(path, glob=False)
        schema = scan.collect_schema()
        rows = scan.select(pl.len()).collect().item()
        metadata = _metadata(pl.read_parquet_metadata(path).get(METADATA))
        half = metadata.get("dtype") == "float16"
        arrays = [_column(path, scan, name, dtype, rows, prefix, half) for name, dtype in schema.items()]
    return Source(tuple(array for array in arrays if array is not None), metadata)


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
        yield np.array(values.to_list(), dtype=str) if plain == pl.String else values.to_numpy()

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


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (foreign.Unfit, pl.exceptions.PolarsError, pl.exceptions.PanicException, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise CacheInvalid(f"{path}: not Parquet, or damaged ({reason}); save or copy the file again") from None
