"""Class weights of the loss: none, class-balanced, or deferred (DRW). Pure."""

import torch
from torch import Tensor

from pipeline.settings import Stage1


def class_balanced(counts_C: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to a sum of C, (C,) (Cui et al., 2019, Eq. 2); all 1 at beta = 0.

    A class without images, which no label names, gets the weight of one with one image.
    """
    counts_C = torch.as_tensor(counts_C).double().clamp(min=1)
    weight_C = (1 - beta) / (1 - beta**counts_C)
    return (weight_C * len(weight_C) / weight_C.sum()).float()


def is_weighted(stage1: Stage1, epoch: int) -> bool:
    """Whether a 0-based epoch's loss is weighted; under `drw` from `drw_start` on (Cao et al., 2019, Alg. 1)."""
    if stage1.reweight == "drw":
        return epoch >= round(stage1.drw_start * stage1.epochs)
    return stage1.reweight == "class-balanced"
