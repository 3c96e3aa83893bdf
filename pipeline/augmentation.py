"""Image augmentation: batched on uint8 tensors in RAM, or torchvision's transforms one image at a time."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2

from pipeline.rng import generator

JITTER = 0.4
"""Brightness, contrast and saturation of ImageNet-LT and Places-LT (Liu et al., 2019)."""


@dataclass(frozen=True)
class Draws:
    """Where each of N rows is cropped, in pixels from the padded corner, and whether it is flipped.

    Where an image is drawn several times, N goes on over its repetitions: row r for the k-th time is r + k N.
    """

    top_N: Tensor
    left_N: Tensor
    flip_N: Tensor


def padding(size: int) -> int:
    """Pixels of padding at each side before a random crop: 4 at 32, as is usual for CIFAR, and in proportion elsewhere."""
    return max(size // 8, 1)


def draw(augmentation: str, rows: int, size: int, source: torch.Generator) -> Draws:
    """Draws for every row of a split at once, so that a row's view depends neither on batches nor on their order."""
    pad = padding(size)
    top_N, left_N = torch.full((2, rows), pad)
    flip_N = torch.zeros(rows, dtype=torch.bool)
    if augmentation in ("crop", "crop-flip"):
        top_N, left_N = torch.randint(0, 2 * pad + 1, (2, rows), generator=source)
    if augmentation == "crop-flip":
        flip_N = torch.randint(0, 2, (rows,), generator=source).bool()
    return Draws(top_N, left_N, flip_N)


def draw_times(augmentation: str, rows: int, size: int, seed: int, times: int) -> Draws:
    """Draws of so many repetitions, one after another; the first are those of a single one."""
    drawn = [draw(augmentation, rows, size, generator(seed, "augment", *([k] if k else []))) for k in range(times)]
    return Draws(*(torch.cat(parts) for parts in zip(*((d.top_N, d.left_N, d.flip_N) for d in drawn), strict=True)))


def crop_flip(padded_NSS3: Tensor, size: int, rows_B: Tensor, draws: Draws) -> Tensor:
    """Crops of rows of padded images (N, S + 2p, S + 2p, 3) as (B, 3, S, S), channels last in memory."""
    images, side = padded_NSS3.shape[:2]
    offsets_S = torch.arange(size)
    y_BS = draws.top_N[rows_B, None] + offsets_S
    x_BS = draws.left_N[rows_B, None] + torch.where(draws.flip_N[rows_B, None], size - 1 - offsets_S, offsets_S)
    flat_BSS = ((rows_B % images)[:, None, None] * side + y_BS[:, :, None]) * side + x_BS[:, None, :]
    pixels_BSS3 = padded_NSS3.view(-1, 3)[flat_BSS.view(-1)].view(len(rows_B), size, size, 3)
    return pixels_BSS3.permute(0, 3, 1, 2)


def clean(size: int, resize: int) -> v2.Compose:
    """PIL image -> uint8 (3, S, S): the shorter side to `resize` pixels, then the centre; an image of that size is untouched."""
    return v2.Compose([v2.Resize(resize), v2.CenterCrop(size), v2.PILToTensor()])


def resized_crop(size: int) -> v2.Compose:
    """PIL image -> uint8 (3, S, S), drawn from torch's global generator."""
    steps = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.ColorJitter(JITTER, JITTER, JITTER)]
    return v2.Compose([*steps, v2.PILToTensor()])


def describe(augmentation: str, size: int) -> dict[str, float | int | str | bool]:
    """What an augmentation does, as a cache's identity states it."""
    if augmentation == "resized-crop":
        return {"crop": "resized", "scale": "0.08-1", "ratio": "3/4-4/3", "flip": True, "jitter": JITTER}
    return {"crop": "padded", "padding": padding(size), "flip": augmentation == "crop-flip"}
