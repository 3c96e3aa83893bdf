"""The images and labels of a run.

They come from the source that the settings name; the module `splits` says which of them are `train`, `val` and `test`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import ConfigError, DataError
from pipeline.images.bad import say_left_out
from pipeline.images.decoding import Item
from pipeline.images.depth import Scale
from pipeline.images.findings import say_defaults, say_shared
from pipeline.images.keeping import images_of, say_size, where_kept
from pipeline.images.pixels import Images
from pipeline.images.reading import Facts, find_broken, read_all
from pipeline.images.sources import load_source
from pipeline.images.sources.source import DeferredItems, Raw
from pipeline.images.splits import check_classes, subset, with_final_splits
from pipeline.images.summary import lines_of_images, sampled_headers
from pipeline.longtail import Rows
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.stage1 import Data


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
    check_classes(dataset.classes, dataset.counts())
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
    readable = subset(raw, np.array(good, dtype=np.int64))
    return _Kept(readable, DeferredItems(items.__getitem__, good), [names[row] for row in good], left_out)


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
