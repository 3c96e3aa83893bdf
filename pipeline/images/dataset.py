"""The images and labels of a run.

They come from the source that the settings name. Where there is no test split, one is held out of the training split. Where the
settings ask for it, a long tail is drawn from what remains.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.images.bad import say_left_out
from pipeline.images.decoding import Item
from pipeline.images.depth import Scale
from pipeline.images.findings import say_defaults, say_shared
from pipeline.images.keeping import images_of, say_size, where_kept
from pipeline.images.listing import listed
from pipeline.images.pixels import Images
from pipeline.images.reading import Facts, find_broken, read_all
from pipeline.images.sources import load_source
from pipeline.images.sources.source import DeferredItems, Raw, Source
from pipeline.images.summary import lines_of_images, sampled_headers
from pipeline.longtail import Rows, class_counts, draw, hold_out, largest_n_max
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.stage1 import Data, LongTail

HOLD_OUT_SEED = 0
"""Seed of the held-out test split. It is one for all runs, so that runs of different seeds are measured on the same images."""


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
    """Class names in label order and the splits: `train`, `test` and, where the settings name one or hold it out, `val`."""

    classes: tuple[str, ...]
    splits: dict[str, Split]
    skipped: list[str]
    """Images left out because they cannot be decoded, each with the reason."""
    decoding: dict[str, int | float | str] = field(default_factory=dict)
    """How images become 8-bit RGB, where that is not what earlier versions did: part of the identity of what they lead to."""
    holds_out_test: bool = False
    """Whether `test` was held out of the training images, because the source has none."""

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
    whole = load_source(data)
    _check_rows(whole.splits)
    source = with_final_splits(whole, settings)
    kept = {name: _kept(name, raw, data) for name, raw in source.splits.items()}
    facts = {name: read_all(split.items, split.names) for name, split in kept.items()}
    scale, decoding = _decoding([fact for split in facts.values() for fact in split])
    place = where_kept(settings, sum(len(split.names) for split in kept.values()))
    splits = {name: _split(split, facts[name], settings, scale, place) for name, split in kept.items()}
    skipped = [text for split in kept.values() for text in split.left_out]
    dataset = Dataset(source.classes, splits, skipped, decoding, "test" not in whole.splits)
    _check_classes(dataset.classes, dataset.counts())
    limits = (settings.longtail.many_above, settings.longtail.few_below)
    sizes = {name: len(split) for name, split in splits.items()}
    headers = sampled_headers(kept["train"].items)
    for line in lines_of_images(data.source, len(dataset.classes), sizes, dataset.counts(), headers, limits):
        note(line)
    names = {name: split.names for name, split in kept.items()}
    say_shared({name: split.digests for name, split in splits.items()}, names, splits["train"].labels_N)
    say_defaults(data, kept["train"].items, scale)
    say_size(place, {name: split.images for name, split in splits.items()})
    return dataset


def _split(kept: "_Kept", facts: Sequence[Facts], settings: Settings, scale: Scale, place: str) -> Split:
    digests = [fact.digest for fact in facts]
    images = images_of(place, kept.items, kept.names, digests, settings, scale)
    return Split(kept.raw.sample_ids, kept.raw.labels_N, digests, images, kept.raw.paths)


def _check_rows(splits: Mapping[str, Raw]) -> None:
    for name, raw in splits.items():
        if len(raw.labels_N) == 0:
            raise DataError(f"data.{name}: no image there; add images, or correct the path")
        if len(set(raw.sample_ids)) < len(raw.sample_ids):
            twice = Counter(raw.sample_ids).most_common(1)[0][0]
            raise DataError(
                f"data.{name}: two images are named {twice!r}; give files in several folders different names"
            )


def with_final_splits(source: Source, settings: Settings) -> Source:
    """The source with the splits that the stages see: `test` held out where there is none, then the long tail drawn from
    `train`, then `val` held out where `data.val_share` asks for it, so that `val` has the training images' imbalance.

    Raises DataError where one of the three cannot be done.
    """
    source = with_test_split(source, settings.data)
    train = source.splits["train"]
    rows = long_tailed_rows(source, settings.longtail, settings.seed)
    if len(rows) < len(train.labels_N):
        source = replace(source, splits={**source.splits, "train": _subset(train, rows)})
    return with_val_split(source, settings.data)


def with_test_split(source: Source, data: Data) -> Source:
    """The source itself if it has a test split, else with `data.test_share` of each training class held out as one."""
    if "test" in source.splits:
        return source
    train = source.splits["train"]
    counts = np.bincount(train.labels_N, minlength=len(source.classes))
    if data.test_share == 0:
        raise DataError("data.test_share: wanted more than 0 where data.test is empty, found 0.0; give either")
    single = [c for c, n in enumerate(counts) if n == 1]
    shared = np.flatnonzero(counts[train.labels_N] > 1)
    if len(shared) == 0:
        raise DataError(
            f"{_named(source.classes, single)}: wanted at least 2 images, one of them for the test split, found 1; add images, "
            "or give a test split with --set data.test=PATH"
        )
    held_out = shared[hold_out(train.labels_N[shared], data.test_share, HOLD_OUT_SEED)[1]]
    kept = np.setdiff1d(np.arange(len(train.labels_N)), held_out)
    if data.train:
        note(
            f"data.test is empty: {len(held_out)} of {len(train.labels_N)} training images, a share of {data.test_share:g} of "
            f"each class, are held out as the test split{' (data.val stays val)' if data.val else ''}"
        )
    if single:
        note(f"{_named(source.classes, single)}: the only image stays in training, so the test split has none")
    return replace(source, splits={**source.splits, "train": _subset(train, kept), "test": _subset(train, held_out)})


def with_val_split(source: Source, data: Data) -> Source:
    """The source with `data.val_share` of each class of its training images held out as `val`; itself where that is 0.

    Raises DataError where no class has two images.
    """
    if data.val_share == 0:
        return source
    train = source.splits["train"]
    kept, held_out = hold_out(train.labels_N, data.val_share, HOLD_OUT_SEED, singles_stay=True)
    if len(held_out) == 0:
        raise DataError("data.val_share: wanted a class of at least 2 training images, found none; set it to 0")
    note(f"{len(held_out)} of {len(train.labels_N)} training images are held out as the split val")
    others = {name: raw for name, raw in source.splits.items() if name != "train"}
    return replace(source, splits={"train": _subset(train, kept), "val": _subset(train, held_out), **others})


def long_tailed_rows(source: Source, longtail: LongTail, seed: int) -> Rows:
    """Sorted training rows that the imbalance profile keeps; all of them under `natural`."""
    labels_N = source.splits["train"].labels_N
    has = np.bincount(labels_N, minlength=len(source.classes)).tolist()
    _check_classes(source.classes, has)
    if longtail.profile == "natural":
        return np.arange(len(labels_N))
    n_max = longtail.n_max or largest_n_max(has, longtail.imbalance_factor)
    wanted = class_counts(n_max, len(has), longtail.imbalance_factor)
    for c, (n, available) in enumerate(zip(wanted, has, strict=True)):
        if n > available:
            raise DataError(
                f"class {c} ({source.classes[c]}): the profile wants {n} images, found {available}; lower longtail.n_max "
                f"(at most {largest_n_max(has, longtail.imbalance_factor)} here) or raise longtail.imbalance_factor"
            )
    if left_out := _named(source.classes, [c for c, n in enumerate(wanted) if n == 0]):
        raise DataError(
            f"{left_out}: the profile leaves no image (n_max {n_max}, imbalance factor "
            f"{longtail.imbalance_factor:g}); lower longtail.imbalance_factor or raise longtail.n_max"
        )
    return draw(labels_N, wanted, seed, longtail.draw)


def _named(classes: Sequence[str], numbers: Sequence[int]) -> str:
    """These classes by number and name, up to 20; "" for none."""
    return listed([f"class {c} ({classes[c]})" for c in numbers])


def _check_classes(classes: Sequence[str], counts: Sequence[int]) -> None:
    empty = [c for c, n in enumerate(counts) if n == 0]
    if empty:
        raise DataError(
            f"{_named(classes, empty)}: no training image ({len(empty)} of {len(classes)} classes have none); "
            "add images, or take the class out of labels and class names"
        )
    if len(classes) < 2:
        raise DataError(f"wanted at least 2 classes, found {len(classes)} ({', '.join(classes)})")


def _subset(raw: Raw, rows: Rows) -> Raw:
    paths = None if raw.paths is None else [raw.paths[row] for row in rows]
    return Raw([raw.sample_ids[row] for row in rows], raw.labels_N[rows], lambda inner: raw.take(rows[inner]), paths)


@dataclass(frozen=True)
class _Kept:
    """The rows of a split that are used: labels and ids, images, and names. `left_out` lists broken images with the reason."""

    raw: Raw
    items: Sequence[Item]
    names: list[str]
    left_out: list[str]


def _kept(name: str, raw: Raw, data: Data) -> _Kept:
    """All rows; under `data.on_bad=skip`, those that can be decoded. Raises DataError where too few can."""
    items = raw.take(np.arange(len(raw.labels_N)))
    names = raw.paths or raw.sample_ids
    broken = find_broken(items, names) if data.on_bad == "skip" else {}
    if not broken:
        return _Kept(raw, items, names, [])
    left_out = say_left_out(name, broken, names, data)
    good = [row for row in range(len(names)) if row not in broken]
    subset = _subset(raw, np.array(good, dtype=np.int64))
    return _Kept(subset, DeferredItems(items.__getitem__, good), [names[row] for row in good], left_out)


def _decoding(facts: Sequence[Facts]) -> tuple[Scale, dict[str, int | float | str]]:
    """Which values become white in images of more than 8 bits, and what the cache's identity says about decoding."""
    scale = Scale.of(fact.peak for fact in facts)
    turned = sum(fact.is_turned for fact in facts)
    if turned:
        note(
            f"{turned} of {len(facts)} images lie on their side or head by their EXIF orientation; they are turned upright"
        )
    for kind, white in scale.described().items():
        whose = "images of floats" if kind == "white_of_floats" else "images of more than 8 bits"
        note(f"{whose}: {white:g} is white, by the largest value of the data set")
    inverted = sum(fact.is_inverted for fact in facts)
    if inverted:
        note(f"{inverted} of {len(facts)} images are TIFF files in which 0 is white; they are inverted")
    turned_and_inverted = {
        **({"orientation": "exif"} if turned else {}),
        **({"white_is_zero": "inverted"} if inverted else {}),
    }
    return scale, {**turned_and_inverted, **scale.described()}
