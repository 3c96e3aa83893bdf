"""Mixed images: mixup, Remix, CutMix. Pure functions. The module `batches` draws which image is mixed with which."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.settings.stage1 import Stage1


@dataclass(frozen=True)
class Mix:
    """What a batch is mixed with: images and labels, its own share l, and the centre of CutMix's box in shares of the side."""

    partner_B3SS: Tensor
    partner_labels_B: Tensor
    share: float
    centre: tuple[float, float]


def mixed(inputs_B3SS: Tensor, mix: Mix, mixing: str) -> tuple[Tensor, float]:
    """The images with their partners mixed in, and the share of each that is its own."""
    if mixing == "cutmix":
        return cutmix(inputs_B3SS, mix.partner_B3SS, mix.share, mix.centre)
    return inputs_B3SS.lerp(mix.partner_B3SS, 1 - mix.share), mix.share


def cutmix(
    inputs_B3SS: Tensor, partner_B3SS: Tensor, share: float, centre: tuple[float, float]
) -> tuple[Tensor, float]:
    """The partner's pixels in a box of sides sqrt(1 - l) around the centre, cut off at the border; the share left over.

    Yun et al. (2019), Eq. 1 and 2; the label's share is that of the box as cut.
    """
    height, width = inputs_B3SS.shape[-2:]
    cut = (1 - share) ** 0.5
    top, bottom = _span(centre[0], cut, height)
    left, right = _span(centre[1], cut, width)
    boxed_B3SS = inputs_B3SS.clone()
    boxed_B3SS[..., top:bottom, left:right] = partner_B3SS[..., top:bottom, left:right]
    return boxed_B3SS, 1 - (bottom - top) * (right - left) / (height * width)


def _span(centre: float, cut: float, side: int) -> tuple[int, int]:
    middle, half = int(centre * side), int(side * cut) // 2
    return max(middle - half, 0), min(middle + half, side)


def remix_shares(labels_B: Tensor, partner_labels_B: Tensor, counts_C: Tensor, share: float, stage1: Stage1) -> Tensor:
    """Each row's share l_y of its own label, (B,) (Chou et al., 2020, Eq. 7): the rarer label takes it whole where

    n_i / n_j >= kappa and l < tau (own label 0), or n_i / n_j <= 1 / kappa and 1 - l < tau (own label 1).
    """
    own_count_B, partner_count_B = counts_C[labels_B], counts_C[partner_labels_B]
    own_B = torch.full(labels_B.shape, share, device=labels_B.device)
    if share < stage1.remix_tau:
        own_B[own_count_B >= stage1.remix_kappa * partner_count_B] = 0.0
    if 1 - share < stage1.remix_tau:
        own_B[stage1.remix_kappa * own_count_B <= partner_count_B] = 1.0
    return own_B
