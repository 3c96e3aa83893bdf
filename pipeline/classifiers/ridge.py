"""Ridge regression on random ReLU features: a head that is not linear in the features, in closed form.

The head of RanPAC (McDonnell et al., Random Projections and Pre-trained Models for Continual Learning, 2023), with each class
counting alike. It is not linear in the features, so it does not fold into a classifier of (C, D) weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.selection import log_likelihoods, row_weights, stratified_folds
from pipeline.classifiers.whitening import BLOCK_ROWS, Whitening, fit_whitening
from pipeline.rng import generator, sampled

STRENGTHS = tuple(10.0**power for power in range(-5, 3))
"""Strengths tried, as shares of the random features' mean square."""


class RandomFeatures(Architecture):
    """relu(x projected) weighted, plus a bias that is 0, or -inf for a class without training rows."""

    NAME = "ridge"
    SHAPES: ClassVar = {"projection": "DM", "weight": "MC", "bias": "C"}

    projection: Tensor
    weight: Tensor
    bias: Tensor

    def scores(self, inputs_BD: Tensor) -> Tensor:
        return functional.relu(inputs_BD @ self.projection) @ self.weight + self.bias


@dataclass(frozen=True)
class RandomRidge:
    """The network, on raw features, and the strength that was chosen."""

    network: RandomFeatures
    strength: float


def fit_ridge(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    seed: int = 0,
    width: int = 2048,
    strengths: Sequence[float] = STRENGTHS,
) -> RandomRidge:
    """The ridge of the strength that is likeliest, class-balanced, on a fifth of the rows held out; then on all rows.

    Where no class has two rows none can be held out, and the middle strength is taken.
    """
    coordinates = fit_whitening(features_ND, labels_N, classes, shrinkage=None)
    source = generator(seed, "ridge")
    projection_DM = sampled(torch.randn, features_ND.shape[1], width, generator=source) / features_ND.shape[1] ** 0.5
    random_NM = torch.cat(
        [_random_features(coordinates, projection_DM, block) for block in features_ND.split(BLOCK_ROWS)]
    )
    known_C = torch.bincount(labels_N, minlength=classes) > 0
    # Classes without rows are left out of the work: their weights stay 0.
    labels_N, present = (known_C.cumsum(0) - 1)[labels_N], int(known_C.sum())
    held_out_N = stratified_folds(labels_N, present, 5, seed) == 0
    strength = strengths[len(strengths) // 2]
    if len(strengths) > 1 and bool(held_out_N.any()):
        weight_SMC = _solve(random_NM[~held_out_N], labels_N[~held_out_N], present, strengths)
        labels_H = labels_N[held_out_N]
        weight_H = row_weights(labels_H, present)
        likely = []
        for weight_MC in weight_SMC:
            likelihood_H, _ = log_likelihoods(random_NM[held_out_N] @ weight_MC, labels_H, weight_H)
            likely.append(float((weight_H * likelihood_H).sum()))
        strength = strengths[max(range(len(strengths)), key=lambda position: likely[position])]
    weight_MC = torch.zeros(width, classes)
    weight_MC[:, known_C] = _solve(random_NM, labels_N, present, [strength])[0]
    bias_C = torch.zeros(classes).masked_fill(~known_C, -torch.inf)
    tensors = {"projection": projection_DM, "weight": weight_MC, "bias": bias_C}
    network = RandomFeatures.on_these(tensors, features_ND.shape[1]).behind(coordinates.columns)
    return RandomRidge(network, strength)


def _random_features(coordinates: Whitening, projection_DM: Tensor, features_BD: Tensor) -> Tensor:
    return functional.relu(coordinates.apply(features_BD) @ projection_DM)


def _solve(random_NM: Tensor, labels_N: Tensor, classes: int, strengths: Sequence[float]) -> Tensor:
    """(H'H + strength tr(H'H) / M I)^-1 H'Y for each strength, (S, M, C); rows are weighted, in place, so that each class counts
    alike.

    It is solved through the smaller of H'H and HH'. These are computed in float32: where its rounding is larger than a strength
    and the matrix is not positive definite, as of features of a single column, the strength is raised tenfold until it is.
    """
    root_N1 = (row_weights(labels_N, classes) * len(labels_N)).sqrt()[:, None]
    random_NM *= root_N1.float()
    target_NC = functional.one_hot(labels_N, classes) * root_N1
    dual = len(random_NM) <= random_NM.shape[1]
    square = (random_NM @ random_NM.T if dual else random_NM.T @ random_NM).double()
    right = target_NC if dual else random_NM.T.double() @ target_NC
    unit = float(square.trace()) / random_NM.shape[1] or 1.0
    solved, shifted, lower = [], torch.empty_like(square), torch.empty_like(square).T
    for strength in strengths:
        while not _factor(square, strength * unit, shifted, lower):
            strength *= 10
        solved.append(torch.cholesky_solve(right, lower).float())
    return torch.stack([random_NM.T @ weight if dual else weight for weight in solved])


def _factor(square: Tensor, added: float, shifted: Tensor, lower: Tensor) -> bool:
    """Write the matrix with `added` on its diagonal to `shifted` and its Cholesky factor to `lower`; false where it has none."""
    shifted.copy_(square).diagonal().add_(added)
    failed = torch.empty((), dtype=torch.int32)
    torch.linalg.cholesky_ex(shifted, out=(lower, failed))
    return not bool(failed)
