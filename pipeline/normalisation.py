"""uint8 pixels -> what a backbone takes. Pure."""

from collections.abc import Sequence

import torch
from torch import Tensor


def normalise(pixels_B3SS: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 - mean) / std, float32 (B, 3, S, S) of the same memory format and device."""
    scale_311 = 1 / (255 * torch.tensor(std, device=pixels_B3SS.device).view(3, 1, 1))
    shift_311 = (torch.tensor(mean, device=pixels_B3SS.device) / torch.tensor(std, device=pixels_B3SS.device)).view(
        3, 1, 1
    )
    return pixels_B3SS.float().mul_(scale_311).sub_(shift_311)
