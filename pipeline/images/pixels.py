"""The images of a split in batches.

They are kept in RAM where they fit. Otherwise the module `decoded` keeps them on disk, or `lazy` decodes them when their batch
is due. All ways give the same tensors.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipeline.images.bad import raise_broken
from pipeline.images.decoding import Item, decode
from pipeline.images.depth import FULL_SCALE, Scale
from pipeline.images.reading import each_decoded
from pipeline.images.transforms.recipe import Augmenter, Recipe, clean, padding
from pipeline.longtail import evenly_spaced

RESIZE_SHARE = 256 / 224
"""Shorter side of a whole photograph to the side of the crop (Krizhevsky et al.: 256 to 224)."""


@dataclass(frozen=True)
class Geometry:
    """Pixels a side that the backbone sees, and the shorter side that the clean view is cut from."""

    size: int
    resize: int
    interpolation: str = "bilinear"
    fit: str = "crop"
    """A value of `data.fit`."""

    @staticmethod
    def of(size: int, train_augmentation: str, interpolation: str = "bilinear", fit: str = "crop") -> "Geometry":
        whole = train_augmentation == "resized-crop" and fit == "crop"
        return Geometry(size, round(size * RESIZE_SHARE) if whole else size, interpolation, fit)

    def described(self) -> dict[str, str]:
        """What an identity says of how images become square, where that is not what earlier versions did."""
        return {} if self.fit == "crop" else {"fit": self.fit}


class Images(ABC):
    """N images of one size S: as the source holds them, their names, and how they become square."""

    def __init__(
        self, items: Sequence[Item], names: Sequence[str], geometry: Geometry, scale: Scale = FULL_SCALE
    ) -> None:
        self._items = items
        self._names = names
        self._geometry = geometry
        self._scale = scale

    def __len__(self) -> int:
        return len(self._items)

    def sample(self, count: int) -> Sequence[Item]:
        """At most `count` of the images as the source holds them, evenly over all."""
        return [self._items[row] for row in evenly_spaced(len(self), count).tolist()]

    def bytes_to_write(self) -> int:
        """Bytes that `prepare` will write to disk."""
        return 0

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once, before the first batch. Raises DataError that names the images found broken on the way."""

    @abstractmethod
    def batches(
        self, rows: Iterable[Tensor], recipe: Recipe, seed: int, repeats: Iterable[Tensor] | None = None
    ) -> Iterator[Tensor]:
        """uint8 (B, 3, S, S), channels last in memory, for each (B,) of rows.

        What is drawn for a row depends on `seed` and the row alone, not on batches, their order or the number of workers.
        `repeats` has a (B,) for each of rows: the 0-based time that a row is drawn, each time with an augmentation of its own;
        None: the first. Raises DataError for images that cannot be decoded.
        """


class RamImages(Images):
    """Images decoded once, on first use, to one uint8 tensor (N, S, S, 3), and augmented a batch at a time."""

    def prepare(self) -> None:
        _ = self._padded_NSS3

    def batches(
        self, rows: Iterable[Tensor], recipe: Recipe, seed: int, repeats: Iterable[Tensor] | None = None
    ) -> Iterator[Tensor]:
        augmenter = Augmenter(recipe, len(self), self._geometry.size, seed)
        for rows_B, repeats_B in with_repeats(rows, repeats):
            draws = augmenter.draws(rows_B, repeats_B)
            yield augmenter.finish(augmenter.crop(self._padded_NSS3, rows_B, draws), draws)

    @cached_property
    def _padded_NSS3(self) -> Tensor:
        pad = padding(self._geometry.size)
        padded_NSS3, broken = _decoded(self._items, self._geometry, self._scale, "images decoded", pad)
        raise_broken(broken, self._names)
        return padded_NSS3


def with_repeats(rows: Iterable[Tensor], repeats: Iterable[Tensor] | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Each (B,) of rows beside its (B,) of repeats, zeros where there are none."""
    if repeats is None:
        yield from ((rows_B, torch.zeros_like(rows_B)) for rows_B in rows)
    else:
        yield from zip(rows, repeats, strict=True)


def fits_in_ram(rows: int, size: int, limit_gib: float) -> bool:
    """Whether `rows` padded images of `size` pixels a side take at most `limit_gib`."""
    side = size + 2 * padding(size)
    return rows * side * side * 3 <= limit_gib * 2**30


def decode_readable(
    items: Sequence[Item], geometry: Geometry, scale: Scale
) -> tuple[Tensor, list[int], dict[int, str]]:
    """The images that can be decoded as uint8 (B, S, S, 3), their positions, and for each other position the reason."""
    pixels_NSS3, broken = _decoded(items, geometry, scale, "")
    positions = [row for row in range(len(items)) if row not in broken]
    return pixels_NSS3[positions] if broken else pixels_NSS3, positions, broken


def _decoded(
    items: Sequence[Item], geometry: Geometry, scale: Scale, description: str, pad: int = 0
) -> tuple[Tensor, dict[int, str]]:
    """Clean views (N, P, P, 3), black where an image cannot be decoded, and the reason for those.

    P is the size S and twice `pad`, a black border of so many pixels. Images are decoded into their place: a copy of all would
    take their memory once more.
    """
    transform = clean(geometry.size, geometry.resize, geometry.interpolation, geometry.fit)
    side = geometry.size + 2 * pad
    padded_NPP3 = np.zeros((len(items), side, side, 3), dtype=np.uint8)
    pixels_NSS3 = padded_NPP3[:, pad : pad + geometry.size, pad : pad + geometry.size]
    whole = (geometry.size, geometry.size) if geometry.size == geometry.resize else None

    def decode_row(row: int) -> None:
        image = decode(items[row], scale)
        pixels_NSS3[row] = np.asarray(image) if image.size == whole else transform(image).permute(1, 2, 0).numpy()

    broken = each_decoded(decode_row, len(items), description)[1]
    return torch.from_numpy(padded_NPP3), broken
