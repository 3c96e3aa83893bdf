"""Forward passes of a trained model over a split."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from pipeline.augmentation import PLAIN, Recipe
from pipeline.datasets import Split
from pipeline.hardware import autocast
from pipeline.normalisation import normalise
from pipeline.settings import Data


def blocks(start: int, stop: int, size: int) -> Iterator[Tensor]:
    """Rows start … stop - 1 in order, `size` at a time."""
    for first in range(start, stop, size):
        yield torch.arange(first, min(first + size, stop))


@torch.inference_mode()
def outputs(
    module: nn.Module,
    split: Split,
    rows: Iterator[Tensor],
    data: Data,
    amp: str,
    recipe: Recipe = PLAIN,
    seed: int = 0,
) -> Iterator[Tensor]:
    """float32 outputs (B, ...) of an eval-mode module, on the CPU, for each block of rows."""
    device = next(chain(module.parameters(), module.buffers())).device
    for pixels_B3SS in split.images.batches(rows, recipe, seed):
        inputs_B3SS = normalise(pixels_B3SS.to(device, non_blocking=True), data.mean, data.std)
        with autocast(amp, device):
            found = module(inputs_B3SS)
        yield found.float().cpu()
