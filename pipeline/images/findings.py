"""Notes on a data set before it is used: images that occur twice, and mean and std that were left at CIFAR's."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.decoding import Item, Undecodable, decode
from pipeline.images.depth import Scale
from pipeline.images.listing import listed
from pipeline.longtail import Rows, evenly_spaced
from pipeline.progress import note
from pipeline.settings.stage1 import Data

NAMED = 5
SAMPLED = 64
"""Images whose mean is taken: enough to tell a data set from CIFAR, and decoded in a moment."""
CIFAR_SIDE = 32


def say_shared(
    digests: Mapping[str, Sequence[bytes]], names: Mapping[str, Sequence[str]], train_labels_N: Rows
) -> None:
    """A note on images of other splits that are training images too, and on training images of two classes, by their digests."""
    rows_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests["train"]):
        rows_of[digest].append(row)
    twice = [pair for rows in rows_of.values() if (pair := of_two_classes(rows, train_labels_N))]
    if twice:
        pairs = [f"{names['train'][first]} = {names['train'][other]}" for first, other in twice]
        note(f"data.train: {len(twice)} images stand there under more than one class: {listed(pairs, NAMED)}")
    for split in sorted(set(digests) - {"train"}):
        known = [row for row, digest in enumerate(digests[split]) if digest in rows_of]
        if known:
            pairs = [
                f"{names[split][row]} = {names['train'][rows_of[digests[split][row]][0]]}" for row in known[:NAMED]
            ]
            more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
            note(
                f"data.{split}: {len(known)} of {len(digests[split])} images are training images too: {', '.join(pairs)}{more}; "
                "figures on them say nothing of new images"
            )


def of_two_classes(rows: Sequence[int], labels_N: Rows) -> tuple[int, int] | None:
    """The first of these rows, and the first one of another class; None where all are of one class."""
    return next(((rows[0], row) for row in rows if labels_N[row] != labels_N[rows[0]]), None)


def say_defaults(data: Data, items: Sequence[Item], scale: Scale) -> None:
    """A note where `data.mean` or `data.std` are left at CIFAR's and the training images are none of CIFAR's.

    CIFAR is known by its source, or by images of 32 pixels a side. A sample of the images, spread evenly, is looked at.
    """
    left = [key for key in ("mean", "std") if getattr(data, key) == Data.model_fields[key].default]
    if not left or data.source in ("cifar10", "cifar100"):
        return
    pixels: list[NDArray[np.float64]] = []
    sides: set[tuple[int, int]] = set()
    for row in evenly_spaced(len(items), SAMPLED).tolist():
        try:
            image = decode(items[row], scale)
        except Undecodable:
            continue
        sides.add(image.size)
        pixels.append(np.asarray(image.resize((CIFAR_SIDE, CIFAR_SIDE), Image.Resampling.NEAREST)) / 255)
    if sides <= {(CIFAR_SIDE, CIFAR_SIDE)}:
        return
    mean_3 = np.mean([image.mean(axis=(0, 1)) for image in pixels], axis=0)
    square_3 = np.mean([(image**2).mean(axis=(0, 1)) for image in pixels], axis=0)
    measured = {"mean": mean_3, "std": np.sqrt(np.maximum(square_3 - mean_3**2, 0))}
    remedy = " ".join(f"--set data.{key}='[{', '.join(f'{value:.3f}' for value in measured[key])}]'" for key in left)
    note(f"data.{' and data.'.join(left)}: left at CIFAR's; {len(pixels)} training images here are near {remedy}")
