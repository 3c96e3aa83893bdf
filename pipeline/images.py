"""The images of a split, as batches: from RAM where they fit, else decoded as they are used. Both yield the same tensors."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.augmentation import augmented, clean, crop_flip, draw, padding
from pipeline.decoding import Item, Undecodable, decode
from pipeline.errors import DataError
from pipeline.progress import track
from pipeline.rng import derive, generator

RESIZE_SHARE = 256 / 224
"""Of whole photographs the shorter side becomes this much larger than the crop (Krizhevsky et al.; 256 to 224)."""

BLOCK = 256
"""Images that a thread decodes at a time: tiny ones cost less than the hand-over."""


@dataclass(frozen=True)
class Geometry:
    """Pixels a side that the backbone sees, and the shorter side that the clean view is cut from."""

    size: int
    resize: int

    @staticmethod
    def of(size: int, train_augmentation: str) -> "Geometry":
        whole = train_augmentation == "resized-crop"
        return Geometry(size, round(size * RESIZE_SHARE) if whole else size)


class Images(Protocol):
    """N images of one size S."""

    def __len__(self) -> int: ...

    def batches(self, rows: Iterable[Tensor], augmentation: str, seed: int) -> Iterator[Tensor]:
        """uint8 (B, 3, S, S), channels last in memory, for each (B,) of rows.

        What is drawn for a row depends on `seed` and the row alone, not on batches, their order or the number of workers.
        """
        ...


class RamImages:
    """Images held as one uint8 tensor (N, S, S, 3), augmented a batch at a time."""

    def __init__(self, pixels_NSS3: Tensor) -> None:
        self.size = pixels_NSS3.shape[1]
        pad = padding(self.size)
        self._padded_NSS3 = F.pad(pixels_NSS3, (0, 0, pad, pad, pad, pad))

    def __len__(self) -> int:
        return len(self._padded_NSS3)

    def batches(self, rows: Iterable[Tensor], augmentation: str, seed: int) -> Iterator[Tensor]:
        draws = draw(augmentation, len(self), self.size, generator(seed, "augment"))
        for rows_B in rows:
            yield crop_flip(self._padded_NSS3, self.size, rows_B, draws)


class LazyImages:
    """Images decoded by the workers of a DataLoader when their batch is due."""

    def __init__(self, items: Sequence[Item], names: Sequence[str], geometry: Geometry, workers: int) -> None:
        self._items = items
        self._names = names
        self._geometry = geometry
        self._workers = workers

    def __len__(self) -> int:
        return len(self._items)

    def batches(self, rows: Iterable[Tensor], augmentation: str, seed: int) -> Iterator[Tensor]:
        dataset = _Decoded(self._items, self._geometry, augmentation, seed)
        batches = [rows_B.tolist() for rows_B in rows]
        loader = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=self._workers,
            collate_fn=_collate,
            pin_memory=torch.cuda.is_available(),
        )
        for pixels_B3SS, broken in loader:
            if broken is not None:
                raise broken_error(self._names[broken[0]], broken[1])
            yield pixels_B3SS


class _Decoded(Dataset):
    """row -> uint8 (3, S, S), or (row, reason) where it cannot be decoded: a worker's exception would lose its type."""

    def __init__(self, items: Sequence[Item], geometry: Geometry, augmentation: str, seed: int) -> None:
        self._items = items
        self._seed = seed
        self._transform = augmented(augmentation, geometry.size, geometry.resize)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> Tensor | tuple[int, str]:
        try:
            image = decode(self._items[row])
        except Undecodable as error:
            return row, str(error)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self._seed, "augment", row))
            return self._transform(image)


def _collate(samples: list[Tensor | tuple[int, str]]) -> tuple[Tensor, tuple[int, str] | None]:
    broken = [sample for sample in samples if not isinstance(sample, Tensor)]
    if broken:
        return torch.empty(0), broken[0]
    pixels_B3SS = torch.stack([sample for sample in samples if isinstance(sample, Tensor)])
    return pixels_B3SS.contiguous(memory_format=torch.channels_last), None


def broken_error(name: str, reason: str) -> DataError:
    """The error for an image that cannot be decoded."""
    return DataError(
        f"image {name}: cannot be decoded ({reason}); replace it, or leave such images out with --set data.broken=skip"
    )


def fits_in_ram(rows: int, size: int, limit_gib: float) -> bool:
    """Whether `rows` padded images of `size` pixels a side take at most `limit_gib`."""
    side = size + 2 * padding(size)
    return rows * side * side * 3 <= limit_gib * 2**30


def decode_all(items: Sequence[Item], geometry: Geometry, description: str) -> tuple[Tensor, dict[int, str]]:
    """All images as uint8 (N, S, S, 3), and the reason for each row that cannot be decoded, whose pixels are 0."""
    transform = clean(geometry.size, geometry.resize)
    pixels_NSS3 = np.zeros((len(items), geometry.size, geometry.size, 3), dtype=np.uint8)
    whole = (geometry.size, geometry.size) if geometry.size == geometry.resize else None

    def one(row: int) -> str | None:
        try:
            image = decode(items[row])
        except Undecodable as error:
            return str(error)
        pixels_NSS3[row] = np.asarray(image) if image.size == whole else transform(image).permute(1, 2, 0).numpy()
        return None

    return torch.from_numpy(pixels_NSS3), _broken_of(one, len(items), description)


def find_broken(items: Sequence[Item], description: str) -> dict[int, str]:
    """The reason for each row that cannot be decoded; every image is decoded and dropped again."""

    def one(row: int) -> str | None:
        try:
            decode(items[row])
        except Undecodable as error:
            return str(error)
        return None

    return _broken_of(one, len(items), description)


def _broken_of(one: Callable[[int], str | None], rows: int, description: str) -> dict[int, str]:
    """What `one` has to say against each row, in a thread a processor."""
    blocks = [range(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    broken: dict[int, str] = {}
    with ThreadPoolExecutor(cpu_count()) as pool, track(rows, description, "images") as progress:
        for block, reasons in zip(blocks, pool.map(lambda block: [one(row) for row in block], blocks), strict=True):
            progress.advance(len(block))
            broken |= {row: reason for row, reason in zip(block, reasons, strict=True) if reason is not None}
    return broken
