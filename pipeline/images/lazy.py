"""Images that are kept nowhere: they are decoded when their batch is due."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pipeline.images.bad import raise_broken
from pipeline.images.decoding import Item, Undecodable, decode, probe
from pipeline.images.depth import FULL_SCALE, Scale
from pipeline.images.pixels import Geometry, Images, with_repeats
from pipeline.images.reading import find_broken
from pipeline.images.transforms.recipe import Augmenter, Recipe, clean, padding, resized_crop
from pipeline.rng import derive, generator


class RowDraw(NamedTuple):
    """A row of a split that is drawn, and the 0-based time that it is; each time has an augmentation of its own."""

    row: int
    repeat: int


class LazyImages(Images):
    """Images decoded by the workers of a DataLoader when their batch is due."""

    def __init__(
        self,
        items: Sequence[Item],
        names: Sequence[str],
        geometry: Geometry,
        workers: int,
        scale: Scale = FULL_SCALE,
    ) -> None:
        super().__init__(items, names, geometry, scale)
        self._workers = workers

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


def _collate(samples: list[Tensor | tuple[int, str]]) -> tuple[Tensor, list[tuple[int, str]]]:
    broken = [sample for sample in samples if not isinstance(sample, Tensor)]
    if broken:
        return torch.empty(0), broken
    pixels_B3SS = torch.stack([sample for sample in samples if isinstance(sample, Tensor)])
    return pixels_B3SS.contiguous(memory_format=torch.channels_last), []
