"""Export: a cache as arrays in one file, or in a folder of .npy files. Importing them gives the same rows, bit for bit.

The arrays are called `<split>/features`, `<split>/view-01` …, `<split>/labels` (int64), `<split>/sample_ids`, `classes`, and,
where the cache has a classifier, `classifier/weight` and `classifier/bias`. Parquet is a table with a row for each sample and
a column for each view. It has no place for a classifier, nor for feature maps, which are `<split>/maps` (N, D, h, w).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.appearing import appearing
from cache.exchange.formats.numpy_files import write_folder, write_npz
from cache.exchange.formats.parquet_files import write_parquet
from cache.exchange.formats.safetensors_files import write_safetensors
from cache.exchange.source import BLOCK_BYTES, SourceArray
from cache.format import layout
from cache.reader import FeatureCache, Features

WRITERS = {".npz": write_npz, ".safetensors": write_safetensors, "": write_folder}


@dataclass(frozen=True)
class Exported:
    """What was written: the path, its size in bytes, the rows of each split, and the views.

    `classifier` says whether it was written. `left_out` names what the format has no place for.
    """

    path: str
    bytes: int
    rows: dict[str, int]
    views: tuple[str, ...]
    classifier: bool
    left_out: tuple[str, ...]


def export(
    cache: FeatureCache,
    destination: Path,
    splits: Sequence[str] = (),
    views: Sequence[str] = (),
    advance: Callable[[int], None] = lambda rows: None,
) -> Exported:
    """Write the named splits and views, or all. The suffix of the destination gives the format; without one it is a folder.

    The destination appears whole or not at all, and never replaces anything. `advance` is called with numbers of rows.
    Raises CacheInvalid for an unknown suffix, split or view, and CacheStorage where the destination exists or the disk cannot
    be written.
    """
    if destination.suffix not in (*WRITERS, ".parquet"):
        raise CacheInvalid(
            f"{destination}: wanted .npz, .safetensors, .parquet or no suffix (a folder), found {destination.suffix}"
        )
    chosen = {
        split: [view for view in _arrays(cache, split) if not views or view in views]
        for split in splits or cache.splits
    }
    known = {view for split in chosen for view in _arrays(cache, split)}
    if unknown := sorted(set(views) - known):
        raise CacheInvalid(f"cache {cache.key[:12]}: no view {unknown[0]!r}, found {', '.join(sorted(known))}")
    classifier = cache.classifier()
    left_out: tuple[str, ...] = ()
    if destination.suffix == ".parquet":
        left_out = ("classifier",) * (classifier is not None)
        left_out += (layout.MAPS,) * any(layout.MAPS in names for names in chosen.values())
        classifier = None
        chosen = {split: [name for name in names if name != layout.MAPS] for split, names in chosen.items()}
    chosen = {split: names for split, names in chosen.items() if names}
    if not chosen:
        raise CacheInvalid(
            f"{destination}: Parquet has no place for feature maps; choose another format, or another view"
        )
    with appearing(destination, destination.suffix == "") as temporary:
        if destination.suffix == ".parquet":
            write_parquet(temporary, cache, chosen, advance)
        else:
            arrays = [
                *_tables(cache, list(chosen)),
                *_plain("classifier/", classifier or {}),
                *_features(cache, chosen, advance),
            ]
            WRITERS[destination.suffix](temporary, arrays)
        size = sum(file.stat().st_size for file in (temporary, *temporary.rglob("*")) if file.is_file())
    rows = {split: cache.manifest.identity.splits[split].rows for split in chosen}
    return Exported(
        str(destination),
        size,
        rows,
        tuple(sorted({view for names in chosen.values() for view in names})),
        classifier is not None,
        left_out,
    )


def _arrays(cache: FeatureCache, split: str) -> list[str]:
    return [*cache.views(split), *((layout.MAPS,) if cache.manifest.identity.maps else ())]


def _tables(cache: FeatureCache, splits: list[str]) -> Iterator[SourceArray]:
    """Class names, and the labels and ids of each split."""
    yield from _plain("", {"classes": np.array(cache.classes, dtype=str)})
    for split in splits:
        frame = cache.rows(split)
        ids = np.array(frame["sample_id"].to_list(), dtype=str)
        yield from _plain(f"{split}/", {"labels": frame["label"].to_numpy(), "sample_ids": ids})


def _plain(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Iterator[SourceArray]:
    """Arrays that lie in RAM, in the order of their names, `prefix` before each name."""
    for name, array in sorted(arrays.items()):
        yield SourceArray(prefix + name, "", array.shape, str(array.dtype), lambda array=array: iter([array]))  # type: ignore[misc]


def _features(
    cache: FeatureCache, chosen: dict[str, list[str]], advance: Callable[[int], None]
) -> Iterator[SourceArray]:
    identity = cache.manifest.identity
    for split, views in chosen.items():
        for view in views:
            shape = (identity.splits[split].rows, *layout.row_shape(identity, view))
            name = f"{split}/{'features' if view == 'clean' else view}"
            yield SourceArray(
                name,
                "",
                shape,
                identity.dtype,
                lambda split=split, view=view: blocks(cache, split, view, advance),  # type: ignore[misc]
            )


def blocks(cache: FeatureCache, split: str, view: str, advance: Callable[[int], None]) -> Iterator[Features]:
    """The rows of a view, (B, D) at a time, or of `maps`, (B, D, h, w). A block is whole chunks, so that none is read twice."""
    manifest, rows = cache.manifest, cache.manifest.identity.splits[split].rows
    step = layout.array_chunk(manifest.identity, view, manifest.rows_per_chunk)
    step *= max(1, BLOCK_BYTES // manifest.raw_chunk_bytes)
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        yield cache.maps(split, start, stop) if view == layout.MAPS else cache.slice(split, view, start, stop)
        advance(min(step, rows - start))
