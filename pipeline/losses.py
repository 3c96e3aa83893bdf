"""Losses of long-tailed classification: (logits_BC, labels_B, ...) -> scalar mean over the batch. Pure.

Where there is a `reduction`, `none` gives the weighted rows, (B,), as torch's cross entropy does.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def label_aware_smoothing(logits_BC: Tensor, labels_B: Tensor, smoothing_C: Tensor) -> Tensor:
    """(1 - e_y) NLL_y + e_y mean_j NLL_j (Zhong et al., MiSLAS, as their code has it: e/K stays on the true class)."""
    log_BC = functional.log_softmax(logits_BC, dim=-1)
    true_B = -log_BC.gather(-1, labels_B[..., None])[..., 0]
    smoothing_B = smoothing_C[labels_B]
    return ((1 - smoothing_B) * true_B - smoothing_B * log_BC.mean(dim=-1)).mean()


def smoothing_by_class(counts_C: Tensor, head: float, tail: float) -> Tensor:
    """e_c = e_K + (e_1 - e_K) sin(pi (n_c - n_K) / (2 (n_1 - n_K))), (C,), from `tail` (n_K) to `head` (n_1)."""
    counts_C = torch.as_tensor(counts_C).float()
    span = (counts_C.max() - counts_C.min()).clamp(min=1)
    return tail + (head - tail) * torch.sin(math.pi * (counts_C - counts_C.min()) / (2 * span))


def focal(
    logits_BC: Tensor,
    labels_B: Tensor,
    gamma: float = 1.0,
    weight_C: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """(1 - p_y)^gamma CE (Lin et al., 2017), p from the weighted CE and the mean over rows, as in the LDAM code."""
    loss_B = functional.cross_entropy(logits_BC, labels_B, weight=weight_C, reduction="none")
    loss_B = (1 - torch.exp(-loss_B)) ** gamma * loss_B
    return loss_B if reduction == "none" else loss_B.mean()


def ldam_margins(counts_C: Tensor, largest: float = 0.5) -> Tensor:
    """m_c = largest * n_c^-1/4 / max n^-1/4, (C,) (Cao et al., 2019, Eq. 12)."""
    margins_C = torch.as_tensor(counts_C).float().clamp(min=1).pow(-0.25)
    return largest * margins_C / margins_C.max()


def ldam(
    logits_BC: Tensor,
    labels_B: Tensor,
    margins_C: Tensor,
    scale: float = 30.0,
    weight_C: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy with the margin taken off the true, cosine, logit, times `scale` (Cao et al., 2019, Eq. 13)."""
    margin_BC = functional.one_hot(labels_B, logits_BC.shape[-1]) * margins_C[labels_B][..., None]
    return functional.cross_entropy(scale * (logits_BC - margin_BC), labels_B, weight=weight_C, reduction=reduction)


def logit_adjusted(
    logits_BC: Tensor,
    labels_B: Tensor,
    counts_C: Tensor,
    tau: float = 1.0,
    weight_C: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Cross entropy of z_c + tau log prior_c (Menon et al., 2021, Eq. 10)."""
    prior_C = torch.as_tensor(counts_C).to(logits_BC.dtype)
    adjusted_BC = logits_BC + tau * torch.log(prior_C / prior_C.sum())
    return functional.cross_entropy(adjusted_BC, labels_B, weight=weight_C, reduction=reduction)


def balanced_softmax(logits_BC: Tensor, labels_B: Tensor, counts_C: Tensor) -> Tensor:
    """Softmax weighted by the class counts (Ren et al., 2020, Eq. 3): `logit_adjusted` at tau = 1."""
    return logit_adjusted(logits_BC, labels_B, counts_C, tau=1.0)


def semantic_spread(weight_CD: Tensor, covariance: Tensor, labels_B: Tensor, chunk: int = 256) -> Tensor:
    """(w_j - w_y)' Sigma_y (w_j - w_y) of each row's class y and every class j, (B, C) (Wang et al., 2019, Eq. 7).

    `covariance` is (C, D), diagonal, or (C, D, D). Leading axes may be added to all but a full one. A full one is worked
    through in chunks of rows: (B, D, D) is never whole in RAM.
    """
    if covariance.dim() == weight_CD.dim():
        own_BD = _rows(weight_CD, labels_B)
        sigma_BD = _rows(covariance, labels_B)
        mixed_BC = (sigma_BD * own_BD) @ weight_CD.transpose(-1, -2)
        return (
            sigma_BD @ weight_CD.square().transpose(-1, -2)
            - 2 * mixed_BC
            + (sigma_BD * own_BD.square()).sum(-1, keepdim=True)
        )
    spread = []
    for labels in labels_B.split(chunk):
        difference_BCD = weight_CD[None] - weight_CD[labels][:, None]
        spread.append(((difference_BCD @ covariance[labels]) * difference_BCD).sum(dim=-1))
    return torch.cat(spread)


def _rows(table_CD: Tensor, labels_B: Tensor) -> Tensor:
    """The row of each label, (..., B, D)."""
    return table_CD.gather(-2, labels_B[..., None].expand(*labels_B.shape, table_CD.shape[-1]))


def isda(
    logits_BC: Tensor, labels_B: Tensor, weight_CD: Tensor, covariance: Tensor, ratio: float, chunk: int = 256
) -> Tensor:
    """Cross entropy of z_j + ratio/2 (w_j - w_y)' Sigma_y (w_j - w_y) (Wang et al., 2019, Eq. 7)."""
    spread_BC = semantic_spread(weight_CD, covariance, labels_B, chunk)
    return functional.cross_entropy(logits_BC + 0.5 * ratio * spread_BC, labels_B)


def class_balanced(counts_C: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to a sum of C, (C,) (Cui et al., 2019, Eq. 2); all 1 at beta = 0.

    A class without images, which no label names, gets the weight of one with one image.
    """
    counts_C = torch.as_tensor(counts_C).double().clamp(min=1)
    weight_C = (1 - beta) / (1 - beta**counts_C)
    return (weight_C * len(weight_C) / weight_C.sum()).float()


def reweighted(counts_C: Tensor, power: float) -> Tensor:
    """n_c^-power, scaled to a sum of C, (C,): generalised re-weighting (Zhang et al., DisAlign, 2021, Eq. 9)."""
    counts_C = torch.as_tensor(counts_C).double().clamp(min=1)
    weight_C = counts_C**-power
    return (weight_C * len(weight_C) / weight_C.sum()).float()
