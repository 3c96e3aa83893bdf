"""What a data set or a cache holds, and what in it looks wrong. Looked at before a long training, it saves the training."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.errors import DataError
from pipeline.images.alarms import Alarm, alarm
from pipeline.images.findings import of_two_classes
from pipeline.images.looking import Look, look_alike, look_at_all, stacked
from pipeline.images.sources import load_source
from pipeline.images.sources.source import Raw, Source
from pipeline.images.splits import with_final_splits
from pipeline.images.summary import Header, factor_text, imbalance_factor, lines_of_images
from pipeline.inspecting.features import feature_alarms
from pipeline.longtail import group_limits, shot_groups
from pipeline.progress import collected
from pipeline.settings import Settings

if TYPE_CHECKING:
    from cache import FeatureCache

BALANCED = 1.5
"""Up to this imbalance factor, methods for the long tail have nothing to gain."""
NEAR_EMPTY = 5
"""A class with fewer training images than this is learned from almost nothing, and no share of it can be held out twice."""


class Inspection(BaseModel):
    """The counts, sizes and alarms of a data set or a cache."""

    model_config = ConfigDict(frozen=True)

    name: str
    format: str
    """The source of images, or `cache`."""
    head: tuple[str, ...]
    """The three lines that every command that reads images prints, too."""
    classes: tuple[str, ...]
    splits: dict[str, int]
    """Rows of each split."""
    counts: tuple[int, ...]
    """Training rows of each class, after the long-tailed draw where the settings ask for one."""
    imbalance_factor: float | None
    groups: dict[str, int]
    """Numbers of many-shot, medium-shot and few-shot classes."""
    sizes: dict[str, tuple[int, int]]
    """Width and height of the smallest, the median and the largest image, by their areas; empty for a cache."""
    modes: dict[str, int]
    """Images of each mode, such as RGB, L (grey), P (palette), CMYK; empty for a cache."""
    alarms: tuple[Alarm, ...]


def inspect_images(settings: Settings) -> Inspection:
    """Decode every image that the settings name, once, and say what was found. Writes nothing.

    Raises DataError where the source cannot be read at all.
    """
    with collected() as notes:
        source = load_source(settings.data)
        source, problems = _final(source, settings)
    alarms = _class_alarms(source)
    alarms += [Alarm(kind="source", text=text, count=1) for text in [*notes, *problems]]
    looks: dict[str, list[Look | None]] = {}
    for name, raw in source.splits.items():
        items = raw.take(np.arange(len(raw.labels_N)))
        looks[name], broken = look_at_all(items, f"looking at {name}")
        alarms += _unreadable(name, raw, broken)
    alarms += _copies(source, looks)
    headers = [look.header for split in looks.values() for look in split if look is not None]
    counts = _counts(source)
    limits = (settings.longtail.many_above, settings.longtail.few_below)
    splits = {name: len(raw.labels_N) for name, raw in source.splits.items()}
    alarms = _balance(counts) + alarms
    return Inspection(
        name=settings.name,
        format=settings.data.source,
        head=tuple(lines_of_images(settings.data.source, len(source.classes), splits, counts, headers, limits)),
        classes=source.classes,
        splits=splits,
        counts=tuple(counts),
        imbalance_factor=imbalance_factor(counts),
        groups=group_sizes(counts, limits),
        sizes=_sizes(headers),
        modes=dict(Counter(header.mode for header in headers).most_common()),
        alarms=tuple(alarms),
    )


def inspect_cache(cache: "FeatureCache", settings: Settings) -> Inspection:
    """What a cache holds, and what is suspicious about its clean features."""
    manifest = cache.manifest
    classes = tuple(manifest.identity.classes)
    labels = {name: np.asarray(cache.labels(name)) for name in cache.splits}
    counts = np.bincount(labels["train"], minlength=len(classes)).tolist()
    limits = (settings.longtail.many_above, settings.longtail.few_below)
    splits = {name: len(rows) for name, rows in labels.items()}
    present = {name: np.bincount(rows, minlength=len(classes)).tolist() for name, rows in labels.items()}
    head = lines_of_images("cache", len(classes), splits, counts, [], limits)[:2]
    width = f"features: {manifest.identity.width} of {manifest.identity.backbone}, {manifest.identity.dtype}"
    alarms = _balance(counts) + _names(classes) + _missing_classes(classes, present) + feature_alarms(cache)
    return Inspection(
        name=manifest.provenance.name,
        format="cache",
        head=(*head, width),
        classes=classes,
        splits=splits,
        counts=tuple(counts),
        imbalance_factor=imbalance_factor(counts),
        groups=group_sizes(counts, limits),
        sizes={},
        modes={},
        alarms=tuple(alarms),
    )


def group_sizes(counts_C: Sequence[int], limits: tuple[int, int]) -> dict[str, int]:
    """How many classes are many-shot, medium-shot and few-shot."""
    return {name: len(group) for name, group in shot_groups(counts_C, *group_limits(counts_C, *limits)).items()}


def _final(source: Source, settings: Settings) -> tuple[Source, list[str]]:
    """The source with the splits that training has; as it is, and the reason, where they cannot be made."""
    try:
        return with_final_splits(source, settings), []
    except DataError as error:
        return source, [str(error)]


def _counts(source: Source) -> list[int]:
    return np.bincount(source.splits["train"].labels_N, minlength=len(source.classes)).tolist()


def _balance(counts_C: Sequence[int]) -> list[Alarm]:
    factor = imbalance_factor(counts_C)
    alarms = []
    if factor is not None and factor <= BALANCED:
        text = f"the imbalance factor is {factor_text(factor)}: on balanced classes, long-tail methods have nothing to gain"
        alarms.append(Alarm(kind="balanced", text=text, count=len(counts_C)))
    return alarms


def _class_alarms(source: Source) -> list[Alarm]:
    present = {
        name: np.bincount(raw.labels_N, minlength=len(source.classes)).tolist() for name, raw in source.splits.items()
    }
    return _names(source.classes) + _missing_classes(source.classes, present)


def _names(classes: Sequence[str]) -> list[Alarm]:
    """Class names that differ by case, blanks, `_` or `-` alone."""
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike["".join(character for character in name.casefold() if character not in " _-\t")].append(name)
    groups = [" = ".join(repr(name) for name in names) for names in alike.values() if len(names) > 1]
    text = "class names differ by case, blanks, _ or - alone, and may mean one class"
    return alarm("names", text, groups)


def _missing_classes(classes: Sequence[str], present: Mapping[str, Sequence[int]]) -> list[Alarm]:
    """Classes that a split lacks, and those with hardly a training image."""
    alarms = []
    for split, counts in present.items():
        lacking = [classes[c] for c, count in enumerate(counts) if count == 0]
        kind = "no training images" if split == "train" else f"no images in {split}"
        alarms += alarm(kind, f"classes without an image in the split {split}", lacking)
    few = [f"{classes[c]} ({count})" for c, count in enumerate(present["train"]) if 0 < count < NEAR_EMPTY]
    return alarms + alarm("near-empty classes", f"classes with fewer than {NEAR_EMPTY} training images", few)


def _unreadable(split: str, raw: Raw, broken: Mapping[int, str]) -> list[Alarm]:
    names = raw.paths or raw.sample_ids
    named = [f"{names[row]} ({reason})" for row, reason in sorted(broken.items())]
    text = f"images of the split {split} cannot be decoded; replace them, or leave them out with --set data.on_bad=skip"
    return alarm("unreadable", text, named)


def _copies(source: Source, looks: Mapping[str, Sequence[Look | None]]) -> list[Alarm]:
    """Images that stand there more than once: within the training split, and in two splits."""
    names = {name: raw.paths or raw.sample_ids for name, raw in source.splits.items()}
    rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, look in enumerate(looks["train"]):
        if look is not None:
            rows_of[look.digest].append(row)
    labels_N = source.splits["train"].labels_N
    twice = [rows for rows in rows_of.values() if len(rows) > 1]
    two_classes = [pair for rows in twice if (pair := of_two_classes(rows, labels_N))]
    alarms = alarm(
        "copies", "training images stand there more than once", [_same(names["train"], rows) for rows in twice]
    )
    alarms += alarm(
        "two labels", "training images stand under two classes", [_same(names["train"], rows) for rows in two_classes]
    )
    for split in (name for name in looks if name != "train"):
        alarms += _shared(split, names, looks, rows_of)
    return alarms


def _same(names: Sequence[str], rows: Sequence[int]) -> str:
    return " = ".join(names[row] for row in rows[:2])


def _shared(
    split: str,
    names: Mapping[str, Sequence[str]],
    looks: Mapping[str, Sequence[Look | None]],
    rows_of: Mapping[bytes, Sequence[int]],
) -> list[Alarm]:
    """Images of a split that are equal to a training image byte by byte, or look like one."""
    digests = [None if look is None else look.digest for look in looks[split]]
    known = {row: rows_of[digest][0] for row, digest in enumerate(digests) if digest is not None and digest in rows_of}
    if known and len(known) == len(digests) and set(digests) == set(rows_of):
        text = f"the split {split} holds the same images as the training split: figures on it are of no new image"
        return [Alarm(kind="test equals train", text=text, count=len(known))]
    pairs = [f"{names[split][row]} = {names['train'][other]}" for row, other in known.items()]
    text = f"images of {split} are training images too, byte by byte: figures on them say nothing of new images"
    alarms = alarm("in two splits", text, pairs)
    (left, left_rows), (right, right_rows) = stacked(looks["train"]), stacked(looks[split])
    alike = [(int(left_rows[other]), int(right_rows[row])) for other, row in look_alike(left, right)]
    near = [f"{names[split][row]} ~ {names['train'][other]}" for other, row in alike if row not in known]
    return alarms + alarm(
        "look alike", f"images of {split} look like a training image (by a hash of 16 x 16 pixels)", near
    )


def _sizes(headers: Sequence[Header]) -> dict[str, tuple[int, int]]:
    if not headers:
        return {}
    by_area = sorted((header.width * header.height, header.width, header.height) for header in headers)
    places = {"smallest": 0, "median": len(by_area) // 2, "largest": -1}
    return {name: by_area[place][1:] for name, place in places.items()}
