"""The rules for what may be stored in a cache: tables of rows, and features that fit the storage type."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.parquet import own, pages


def storable(
    features_BD: NDArray[np.floating[Any]], dtype: str, where: str
) -> tuple[NDArray[np.floating[Any]], int | None]:
    """The features in the storage type, (B, D), and the first row that is not finite there, or None.

    They are the given array itself where it has that type. Raises CacheInvalid for features that are no floats.
    """
    if features_BD.dtype.kind != "f":
        raise CacheInvalid(f"{where}: wanted floating point features, found {features_BD.dtype}")
    with np.errstate(over="ignore"):
        stored_BD = features_BD.astype(dtype, copy=False)
    bad_B = ~np.isfinite(stored_BD).all(axis=1)
    return stored_BD, int(bad_B.argmax()) if bad_B.any() else None


def refusal(feature_D: NDArray[np.floating[Any]], dtype: str) -> str:
    """Why a feature, (D,), is not stored, and what to do."""
    if np.isfinite(feature_D).all():
        return f"{float(np.abs(feature_D).max()):g} does not fit {dtype}; set extract.dtype=float32"
    return "the feature is not finite; look at the image, or extract with extract.amp=off"


def rows_problem(frame: pl.DataFrame, rows: int, classes: int) -> str:
    """What is wrong with the table of a split of N rows and C classes; empty where nothing is."""
    for column, wanted in (("row", pl.Int64), ("sample_id", pl.String), ("label", pl.Int64)):
        if frame.schema.get(column) != wanted:
            return f"wanted column {column} of {wanted}, found {frame.schema.get(column, 'none')}"
    for column, dtype in frame.schema.items():
        if not (dtype.is_numeric() or dtype.is_temporal() or dtype in (pl.String, pl.Boolean)) or dtype.is_decimal():
            return f"column {column}: wanted numbers, times or text, found {dtype}"
    if len(frame.columns) > pages.COLUMNS or frame.estimated_size() > own.allowed_bytes(rows):
        return (
            f"wanted at most {pages.COLUMNS} columns and {own.ROW_BYTES} bytes a row, found {len(frame.columns)} columns and "
            f"{frame.estimated_size()} bytes"
        )
    if len(frame) != rows or not (frame["row"] == pl.int_range(rows, eager=True)).all() or frame["row"].has_nulls():
        return f"wanted rows 0 to {rows - 1} in order, found {len(frame)} rows"
    bad = frame.filter(frame["sample_id"].is_null() | frame["label"].is_null())
    if len(bad):
        return f"row {bad['row'][0]} has no sample_id or label"
    twice = frame.filter(frame["sample_id"].is_duplicated())
    if len(twice):
        first, second = twice["row"].to_list()[:2]
        return (
            f"sample_id {twice['sample_id'][0]!r} stands twice (rows {first} and {second}); ids are unique in a split"
        )
    outside = frame.filter(~frame["label"].is_between(0, classes - 1))
    if len(outside):
        return f"label {outside['label'][0]} of sample {outside['sample_id'][0]!r}, wanted 0 to {classes - 1}"
    return ""
