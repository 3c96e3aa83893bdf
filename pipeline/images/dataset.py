"""Images and labels of a run: a source by name, a test split held out where there is none, the long-tailed draw."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.images.decoding import digest_all, find_broken
from pipeline.images.pixels import Geometry, Images, LazyImages, RamImages, fits_in_ram
from pipeline.images.sources import DATASETS
from pipeline.images.sources.source import Raw, Source
from pipeline.longtail import Rows, class_counts, draw, hold_out, largest_n_max
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.stage1 import Data, LongTail

HOLD_OUT_SEED = 0
"""The held-out test split is the same for every seed, or runs of several seeds would be measured on different images."""


@dataclass(frozen=True)
class Split:
    """N images: ids, labels (N,), sha256 digests of files or pixels, pixels, and paths where the source has them."""

    sample_ids: list[str]
    labels_N: Rows
    digests: list[bytes]
    images: Images
    paths: list[str] | None

    def __len__(self) -> int:
        return len(self.sample_ids)

    def samples_digest(self) -> str:
        """sha256, hex, of the ordered sample ids."""
        return hashlib.sha256("\0".join(self.sample_ids).encode()).hexdigest()

    def content_digest(self) -> str:
        """sha256, hex, of the ordered content digests and labels."""
        labels = self.labels_N.astype("<i8").tobytes()
        return hashlib.sha256(b"".join(self.digests) + labels).hexdigest()


@dataclass(frozen=True)
class Dataset:
    """Class names in label order; splits `train`, `test` and perhaps `val`; what was left out as broken."""

    classes: tuple[str, ...]
    splits: dict[str, Split]
    skipped: list[str]

    def counts(self) -> list[int]:
        """Training images of each class (C)."""
        return np.bincount(self.splits["train"].labels_N, minlength=len(self.classes)).tolist()


def load(settings: Settings) -> Dataset:
    """The splits that the settings name. The long tail is drawn from `train` alone; `val` and `test` are never touched.

    Raises ConfigError for paths that cannot be meant, DataError for labels, classes or images that cannot be used.
    """
    data = settings.data
    for key, values in (("mean", data.mean), ("std", data.std)):
        if len(values) != 3:
            raise ConfigError(f"data.{key}: wanted 3 values, red, green and blue, found {len(values)}")
    found = DATASETS[data.source](data)
    _check_rows(found.splits)
    source = with_test_split(found, data)
    rows = {name: np.arange(len(raw.labels_N)) for name, raw in source.splits.items()}
    rows["train"] = long_tailed_rows(source, settings.longtail, settings.seed)
    geometry = Geometry.of(data.image_size, settings.stage1.augmentation)
    total = sum(len(kept) for kept in rows.values())
    in_ram = settings.stage1.augmentation != "resized-crop" and fits_in_ram(total, data.image_size, data.ram_limit)
    splits, skipped = {}, []
    for name, raw in source.splits.items():
        splits[name], left_out = _split(raw, rows[name], data, geometry, in_ram)
        skipped += left_out
    for text in skipped:
        note(f"left out: {text}")
    for name, split in splits.items():
        if len(split) == 0:
            raise DataError(f"data.{name}: every image is broken; the first: {skipped[0]}")
    dataset = Dataset(source.classes, splits, skipped)
    _check_classes(dataset.classes, dataset.counts())
    return dataset


def _check_rows(splits: Mapping[str, Raw]) -> None:
    for name, raw in splits.items():
        if len(raw.labels_N) == 0:
            raise DataError(f"data.{name}: no image there; add images, or correct the path")
        if len(set(raw.sample_ids)) < len(raw.sample_ids):
            twice = Counter(raw.sample_ids).most_common(1)[0][0]
            raise DataError(
                f"data.{name}: two images are named {twice!r}; give files in several folders different names"
            )


def with_test_split(source: Source, data: Data) -> Source:
    """The source itself if it has a test split, else with `data.test_share` of each training class held out as one."""
    if "test" in source.splits:
        return source
    train = source.splits["train"]
    counts = np.bincount(train.labels_N, minlength=len(source.classes))
    for c, n in enumerate(counts):
        if n == 1:
            raise DataError(
                f"class {c} ({source.classes[c]}): wanted at least 2 images, one of them for the test split, found 1; "
                "add images, or give a test split with --set data.test=PATH"
            )
    if data.test_share == 0:
        raise DataError("data.test_share: wanted more than 0 where data.test is empty, found 0.0; give either")
    kept, held_out = hold_out(train.labels_N, data.test_share, HOLD_OUT_SEED)
    return replace(source, splits={**source.splits, "train": _subset(train, kept), "test": _subset(train, held_out)})


def long_tailed_rows(source: Source, longtail: LongTail, seed: int) -> Rows:
    """Sorted training rows that the imbalance profile keeps; all of them under `natural`."""
    labels_N = source.splits["train"].labels_N
    has = np.bincount(labels_N, minlength=len(source.classes)).tolist()
    _check_classes(source.classes, has)
    if longtail.profile == "natural":
        return np.arange(len(labels_N))
    n_max = longtail.n_max or largest_n_max(has, longtail.imbalance_factor)
    wanted = class_counts(n_max, len(has), longtail.imbalance_factor)
    for c, (n, found) in enumerate(zip(wanted, has, strict=True)):
        if n > found:
            raise DataError(
                f"class {c} ({source.classes[c]}): the profile wants {n} images, found {found}; lower longtail.n_max "
                f"(at most {largest_n_max(has, longtail.imbalance_factor)} here) or raise longtail.imbalance_factor"
            )
        if n == 0:
            raise DataError(
                f"class {c} ({source.classes[c]}): the profile leaves no image (n_max {n_max}, imbalance factor "
                f"{longtail.imbalance_factor:g}); lower longtail.imbalance_factor or raise longtail.n_max"
            )
    return draw(labels_N, wanted, seed, longtail.draw)


def _check_classes(classes: Sequence[str], counts: Sequence[int]) -> None:
    empty = [c for c, n in enumerate(counts) if n == 0]
    if empty:
        raise DataError(
            f"class {empty[0]} ({classes[empty[0]]}): no training image ({len(empty)} of {len(classes)} classes have none); "
            "add images, or take the class out of labels and class names"
        )
    if len(classes) < 2:
        raise DataError(f"wanted at least 2 classes, found {len(classes)} ({', '.join(classes)})")


def _subset(raw: Raw, rows: Rows) -> Raw:
    paths = None if raw.paths is None else [raw.paths[row] for row in rows]
    return Raw([raw.sample_ids[row] for row in rows], raw.labels_N[rows], lambda inner: raw.take(rows[inner]), paths)


def _split(raw: Raw, rows: Rows, data: Data, geometry: Geometry, in_ram: bool) -> tuple[Split, list[str]]:
    """The rows of a split with their images, and the names of those left out as broken, with the reason."""
    raw = _subset(raw, rows)
    items = raw.take(np.arange(len(rows)))
    names = raw.paths or raw.sample_ids
    broken = find_broken(items, names) if data.broken == "skip" else {}
    left_out = [f"{names[row]} ({reason})" for row, reason in sorted(broken.items())]
    if broken:
        good = [row for row in range(len(rows)) if row not in broken]
        raw, items, names = (
            _subset(raw, np.array(good, dtype=np.int64)),
            [items[row] for row in good],
            [names[row] for row in good],
        )
    images = RamImages(items, names, geometry) if in_ram else LazyImages(items, names, geometry, data.workers)
    return Split(raw.sample_ids, raw.labels_N, digest_all(items, names), images, raw.paths), left_out
