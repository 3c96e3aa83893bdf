"""What a data set is, in three lines: its source and splits, its long tail, the sizes and modes of its images."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.images.decoding import Item, Undecodable, header
from pipeline.images.listing import listed
from pipeline.longtail import evenly_spaced, group_limits, shot_groups

HEADERS_READ = 64
"""Images whose headers are read where a summary must be quick."""


class Header(NamedTuple):
    """Width and height of an image in pixels, as stored, and Pillow's name of its mode, such as RGB or L (grey)."""

    width: int
    height: int
    mode: str


def lines_of_images(
    source: str,
    classes: int,
    splits: Mapping[str, int],
    counts_C: Sequence[int],
    headers: Sequence[Header],
    limits: tuple[int, int],
) -> list[str]:
    """The three lines. `splits`: images of each; `counts_C`: training images of each class; `limits`: many above, few below."""
    return [splits_line(source, classes, splits), tail_line(counts_C, limits), sizes_line(headers)]


def splits_line(source: str, classes: int, splits: Mapping[str, int]) -> str:
    """Such as "parquet: 10 classes; train 50,000, test 10,000 images"."""
    parts = ", ".join(f"{name} {count:,}" for name, count in splits.items())
    return f"{source}: {classes:,} classes; {parts} images"


def tail_line(counts_C: Sequence[int], limits: tuple[int, int]) -> str:
    """Range and median of the classes' training images, the imbalance factor and the sizes of the groups."""
    many_above, few_below = group_limits(counts_C, *limits)
    groups = shot_groups(counts_C, many_above, few_below)
    smallest, largest = min(counts_C, default=0), max(counts_C, default=0)
    return (
        f"training images a class: {smallest:,} to {largest:,}, median {np.median(counts_C or [0]):,.0f}, imbalance factor "
        f"{factor_text(imbalance_factor(counts_C))}; {len(groups['many'])} many-shot (> {many_above}), "
        f"{len(groups['medium'])} medium, {len(groups['few'])} few (< {few_below})"
    )


def sizes_line(headers: Sequence[Header]) -> str:
    """Range and median of the images' sizes, and the share of each mode."""
    if not headers:
        return "sizes: no image could be read"
    by_area = sorted(headers, key=lambda header: header.width * header.height)
    smallest, middle, largest = by_area[0], by_area[len(by_area) // 2], by_area[-1]
    sizes = f"{smallest.width} x {smallest.height}"
    if (smallest.width, smallest.height) != (largest.width, largest.height):
        sizes += f" to {largest.width} x {largest.height} pixels, median {middle.width} x {middle.height}"
    modes = Counter(header.mode for header in headers).most_common()
    shares = listed([f"{mode} {100 * count / len(headers):.0f} %" for mode, count in modes], 5)
    return f"sizes of {len(headers):,} images: {sizes}; modes: {shares}"


def imbalance_factor(counts_C: Sequence[int]) -> float | None:
    """Images of the largest class to those of the smallest; None where a class has none, or there is no class."""
    return max(counts_C) / min(counts_C) if min(counts_C, default=0) else None


def factor_text(factor: float | None) -> str:
    """A factor as people write it: 100, or 3.5."""
    return "none (a class has no image)" if factor is None else f"{factor:.0f}" if factor >= 10 else f"{factor:.1f}"


def sampled_headers(items: Sequence[Item]) -> list[Header]:
    """The headers of some images, evenly over the sequence; of those that can be read."""
    headers = []
    for row in evenly_spaced(len(items), HEADERS_READ).tolist():
        try:
            headers.append(Header(*header(items[row])))
        except Undecodable:
            continue
    return headers
