"""The images of a split in batches.

They are kept in RAM where they fit, and else decoded when their batch is due; the module `decoded` keeps them on disk. All
ways give the same tensors.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.images.bad import raise_broken
from pipeline.images.decoding import Item, Undecodable, decode, probe
from pipeline.images.depth import FULL_SCALE, Scale
from pipeline.images.reading import each_decoded, find_broken
from pipeline.images.transforms.recipe import Augmenter, Recipe, clean, padding, resized_crop
from pipeline.longtail import evenly_spaced
from pipeline.rng import derive, generator

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


class RowDraw(NamedTuple):
    """A row of a split that is drawn, and the 0-based time that it is; each time has an augmentation of its own."""

    row: int
    repeat: int


class Images(Protocol):
    """N images of one size S."""

    def __len__(self) -> int: ...

    def sample(self, count: int) -> Sequence[Item]:
        """At most `count` of the images as the source holds them, evenly over all."""
        ...

    def bytes_to_write(self) -> int:
        """Bytes that `prepare` will write to disk."""
        ...

    def prepare(self) -> None:
        """Do what is done once, before the first batch. Raises DataError that names the images found broken on the way."""
        ...

    def batches(
        self, rows: Iterable[Tensor], recipe: Recipe, seed: int, repeats: Iterable[Tensor] | None = None
    ) -> Iterator[Tensor]:
        """uint8 (B, 3, S, S), channels last in memory, for each (B,) of rows.

        What is drawn for a row depends on `seed` and the row alone, not on batches, their order or the number of workers.
        `repeats` has a (B,) for each of rows: the 0-based time that a row is drawn, each time with an augmentation of its own;
        None: the first. Raises DataError for images that cannot be decoded.
        """
        ...


class RamImages:
    """Images decoded once, on first use, to one uint8 tensor (N, S, S, 3), and augmented a batch at a time."""

    def __init__(
        self,
        items: Sequence[Item],
        names: Sequence[str],
        geometry: Geometry,
        scale: Scale = FULL_SCALE,
    ) -> None:
        self._items = items
        self._names = names
        self._geometry = geometry
        self._scale = scale

    def __len__(self) -> int:
        return len(self._items)

    def sample(self, count: int) -> Sequence[Item]:
        return [self._items[row] for row in evenly_spaced(len(self), count).tolist()]

    def bytes_to_write(self) -> int:
        return 0

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
        return F.pad(decode_all(self._items, self._names, self._geometry, self._scale), (0, 0, pad, pad, pad, pad))


class LazyImages:
    """Images decoded by the workers of a DataLoader when their batch is due."""

    def __init__(
        self,
        items: Sequence[Item],
        names: Sequence[str],
        geometry: Geometry,
        workers: int,
        scale: Scale = FULL_SCALE,
    ) -> None:
        self._items = items
        self._names = names
        self._geometry = geometry
        self._scale = scale
        self._workers = workers

    def __len__(self) -> int:
        return len(self._items)

    def sample(self, count: int) -> Sequence[Item]:
        return [self._items[row] for row in evenly_spaced(len(self), count).tolist()]

    def bytes_to_write(self) -> int:
        return 0

    def prepare(self) -> None:
        """Read every image's header. What is no image is found here; an image cut short is found when it is first used."""
        raise_broken(find_broken(self._items, self._names, probe), self._names)

    def batches(
        self, rows: Iterable[Tensor], recipe: Recipe, seed: int, repeats: Iterable[Tensor] | None = None
    ) -> Iterator[Tensor]:
        dataset = _Decoded(self._items, self._geometry, self._scale, recipe, seed)
        batches = [
            [RowDraw(row, repeat) for row, repeat in zip(rows_B.tolist(), repeats_B.tolist(), strict=True)]
            for rows_B, repeats_B in with_repeats(rows, repeats)
        ]
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
            generator=generator(seed, "workers"),
        )
        for pixels_B3SS, broken in loader:
            raise_broken(dict(broken), self._names)
            yield pixels_B3SS


class _Decoded(Dataset):
    """RowDraw -> uint8 (3, S, S), or (row, reason) where it cannot be decoded.

    It does not raise, as an exception loses its type on the way from a worker.
    """

    def __init__(self, items: Sequence[Item], geometry: Geometry, scale: Scale, recipe: Recipe, seed: int) -> None:
        self._items = items
        self._scale = scale
        self._seed = seed
        self._size = geometry.size
        self._recipe = recipe
        self._augmenter = Augmenter(recipe, len(items), geometry.size, seed)
        self._transform = clean(geometry.size, geometry.resize, geometry.interpolation, geometry.fit)
        if recipe.crop == "resized-crop":
            self._transform = resized_crop(geometry.size, geometry.interpolation)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, drawn: RowDraw) -> Tensor | tuple[int, str]:
        row, repeat = drawn
        try:
            image = decode(self._items[row], self._scale)
        except Undecodable as error:
            return row, str(error)
        with torch.random.fork_rng(devices=[]):
            # Each repeat has a seed of its own; views and trainings depend on these numbers, so they never change.
            torch.manual_seed(derive(self._seed, "augment", row + repeat * len(self)))
            pixels_3SS = self._transform(image)
        draws = self._augmenter.draws(torch.tensor([row]), torch.tensor([repeat]))
        pixels_13SS = pixels_3SS[None]
        if self._recipe.crop in ("crop", "crop-flip"):
            pad = padding(self._size)
            padded_1SS3 = F.pad(pixels_13SS, (pad, pad, pad, pad)).permute(0, 2, 3, 1).contiguous()
            pixels_13SS = self._augmenter.crop(padded_1SS3, torch.zeros(1, dtype=torch.int64), draws)
        return self._augmenter.finish(pixels_13SS, draws)[0]


def with_repeats(rows: Iterable[Tensor], repeats: Iterable[Tensor] | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Each (B,) of rows beside its (B,) of repeats, zeros where there are none."""
    if repeats is None:
        yield from ((rows_B, torch.zeros_like(rows_B)) for rows_B in rows)
    else:
        yield from zip(rows, repeats, strict=True)


def _collate(samples: list[Tensor | tuple[int, str]]) -> tuple[Tensor, list[tuple[int, str]]]:
    broken = [sample for sample in samples if not isinstance(sample, Tensor)]
    if broken:
        return torch.empty(0), broken
    pixels_B3SS = torch.stack([sample for sample in samples if isinstance(sample, Tensor)])
    return pixels_B3SS.contiguous(memory_format=torch.channels_last), []


def fits_in_ram(rows: int, size: int, limit_gib: float) -> bool:
    """Whether `rows` padded images of `size` pixels a side take at most `limit_gib`."""
    side = size + 2 * padding(size)
    return rows * side * side * 3 <= limit_gib * 2**30


def decode_all(items: Sequence[Item], names: Sequence[str], geometry: Geometry, scale: Scale) -> Tensor:
    """All images as uint8 (N, S, S, 3). Raises DataError that names those that cannot be decoded."""
    pixels_NSS3, broken = _decoded(items, geometry, scale, "images decoded")
    raise_broken(broken, names)
    return pixels_NSS3


def decode_readable(
    items: Sequence[Item], geometry: Geometry, scale: Scale
) -> tuple[Tensor, list[int], dict[int, str]]:
    """The images that can be decoded as uint8 (B, S, S, 3), their positions, and for each other position the reason."""
    pixels_NSS3, broken = _decoded(items, geometry, scale, "")
    positions = [row for row in range(len(items)) if row not in broken]
    return pixels_NSS3[positions] if broken else pixels_NSS3, positions, broken


def _decoded(
    items: Sequence[Item], geometry: Geometry, scale: Scale, description: str
) -> tuple[Tensor, dict[int, str]]:
    """Clean views (N, S, S, 3), whatever was in memory where an image cannot be decoded, and the reason for those."""
    transform = clean(geometry.size, geometry.resize, geometry.interpolation, geometry.fit)
    pixels_NSS3 = np.empty((len(items), geometry.size, geometry.size, 3), dtype=np.uint8)
    whole = (geometry.size, geometry.size) if geometry.size == geometry.resize else None

    def decode_row(row: int) -> None:
        image = decode(items[row], scale)
        pixels_NSS3[row] = np.asarray(image) if image.size == whole else transform(image).permute(1, 2, 0).numpy()

    broken = each_decoded(decode_row, len(items), description)[1]
    return torch.from_numpy(pixels_NSS3), broken
