"""Which images the stages see as `train`, `val` and `test`: what the source has, and what is drawn or held out of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import DataError
from pipeline.images.listing import listed
from pipeline.images.sources.source import Raw, Source
from pipeline.longtail import Rows, class_counts, draw, hold_out, largest_n_max
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.stage1 import Data, LongTail

HOLD_OUT_SEED = 0
"""Seed of the held-out test and val splits. It is one for all runs: those of different seeds are measured on the same images."""


def with_final_splits(source: Source, settings: Settings) -> Source:
    """The source with the splits that the stages see: `test` held out where there is none, then the long tail drawn from
    `train`, then `val` held out where `data.val_share` asks for it, so that `val` has the training images' imbalance.

    Raises DataError where one of the three cannot be done.
    """
    source = with_test_split(source, settings.data)
    train = source.splits["train"]
    rows = long_tailed_rows(source, settings.longtail, settings.seed)
    if len(rows) < len(train.labels_N):
        source = replace(source, splits={**source.splits, "train": subset(train, rows)})
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
    return replace(source, splits={**source.splits, "train": subset(train, kept), "test": subset(train, held_out)})


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
    return replace(source, splits={"train": subset(train, kept), "val": subset(train, held_out), **others})


def long_tailed_rows(source: Source, longtail: LongTail, seed: int) -> Rows:
    """Sorted training rows that the imbalance profile keeps; all of them under `natural`."""
    labels_N = source.splits["train"].labels_N
    has = np.bincount(labels_N, minlength=len(source.classes)).tolist()
    check_classes(source.classes, has)
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


def check_classes(classes: Sequence[str], counts: Sequence[int]) -> None:
    """Raises DataError for a class without a training image, and for fewer than two classes."""
    empty = [c for c, n in enumerate(counts) if n == 0]
    if empty:
        raise DataError(
            f"{_named(classes, empty)}: no training image ({len(empty)} of {len(classes)} classes have none); "
            "add images, or take the class out of labels and class names"
        )
    if len(classes) < 2:
        raise DataError(f"wanted at least 2 classes, found {len(classes)} ({', '.join(classes)})")


def subset(raw: Raw, rows: Rows) -> Raw:
    """These rows of a split."""
    paths = None if raw.paths is None else [raw.paths[row] for row in rows]
    return Raw([raw.sample_ids[row] for row in rows], raw.labels_N[rows], lambda inner: raw.take(rows[inner]), paths)
