"""Forward passes of a trained model over a split."""

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.images.dataset import Split
from pipeline.images.transforms.recipe import PLAIN, Recipe, normalise
from pipeline.machine.device import autocast
from pipeline.progress import track
from pipeline.rng import derive, generator
from pipeline.samplers import RowSampler
from pipeline.settings import Settings
from pipeline.settings.stage1 import Data


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
            output = module(inputs_B3SS)
        yield output.float().cpu()


BATCH = 128
"""Images in a batch of `reestimate`. The average is taken over batches, so another number gives other statistics."""


def reestimate(module: nn.Module, split: Split, settings: Settings, sampling: str) -> None:
    """Replace the statistics of every batch normalisation by their mean over batches of training images, in place.

    As many images as the split has, under the training augmentation, drawn from `seed`; `balanced`: class-balanced, as
    MiSLAS shifts them (Zhong et al., 2021, section 3.3; there by momentum while stage 2 trains, here as a cumulative
    average). Weights stay, and everything else of the module is in eval mode.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not layers:
        return
    module.eval()
    kept = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    labels_N = torch.from_numpy(split.labels_N)
    rows = RowSampler(labels_N, sampling).draw((len(split),), generator(settings.seed, "batchnorm", sampling))
    batches = [rows_B for rows_B in rows.split(BATCH) if len(rows_B) > 1]
    recipe, seed = Recipe.of(settings), derive(settings.seed, "batchnorm", sampling)
    with track(len(rows), "estimating batch-norm statistics", "images") as progress:
        for output in outputs(module, split, iter(batches), settings.data, "off", recipe, seed):
            progress.advance(len(output))
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    module.eval()
