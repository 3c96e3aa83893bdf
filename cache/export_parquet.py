"""A cache -> one Parquet file: split, sample_id, label, class_name, features, view-01 …; streamed.

Not every reader knows Parquet's half floats: float16 is written as float32, and the file's metadata says what it was.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from cache.source_parquet import METADATA
from cache.sources import BLOCK_BYTES
from cache.store import FeatureCache


def write_parquet(
    path: Path, cache: FeatureCache, chosen: dict[str, list[str]], advance: Callable[[int], None]
) -> None:
    """One row a sample, split after split; a view that a split has not is null there."""
    identity = cache.manifest.identity
    views = sorted({view for names in chosen.values() for view in names})
    vector = pl.Array(pl.Float32, identity.width)
    text = {"split": pl.String(), "sample_id": pl.String(), "label": pl.Int64(), "class_name": pl.String()}
    schema = pl.Schema({**text, **{_column(view): vector for view in views}})
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
        return pl.Series(_column(view), [None] * rows, dtype=vector)
    features_BD = cache.slice(split, view, start, start + rows).astype(np.float32)
    return pl.Series(_column(view), features_BD, dtype=vector)


def _column(view: str) -> str:
    return "features" if view == "clean" else view
