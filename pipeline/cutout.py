"""Cutout: a square of each image is blanked (DeVries and Taylor, 2017)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_centres(rows: int, size: int, source: torch.Generator) -> Tensor:
    """Row and column of each square's centre, (2, N): any pixel, so that a square may reach over the border."""
    return torch.randint(size, (2, rows), generator=source)


def cut_out(images_B3SS: Tensor, centre_2B: Tensor, side: int, fill_3: Sequence[int]) -> Tensor:
    """`side` pixels from `side // 2` before the centre on become `fill_3`, which after normalisation is to be 0."""
    first_2B1 = centre_2B[:, :, None] - side // 2
    pixel_S = torch.arange(images_B3SS.shape[-1])
    row_BS, column_BS = (pixel_S >= first_2B1) & (pixel_S < first_2B1 + side)
    inside_B1SS = (row_BS[:, :, None] & column_BS[:, None, :])[:, None]
    return images_B3SS.where(~inside_B1SS, torch.tensor(fill_3, dtype=torch.uint8).view(3, 1, 1))
