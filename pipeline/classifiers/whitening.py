"""Whitened coordinates for the closed-form classifiers: no unit, offset or correlation of the features matters. Pure.

Each column is centred and divided by its spread over the training rows; then the directions in which a class scatters most
are drawn in. A classifier learnt there is folded back, so that what is saved acts on raw features.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.coordinates import ROUNDING

BLOCK_ROWS = 8192
"""Rows that are taken to float64 at a time."""

COVARIANCE_ROWS = 32768
"""Rows that the within-class covariance is estimated from, evenly spaced; more say nothing new and cost N D^2."""

SHRINKAGE = 0.8
"""Measured on rows left out of long-tailed draws of two CLIP sets, logistic regression: .8 and .9 gain 1 to 2 points over
columns alone, .5 and .98 less than half of that; none (0) loses 1 to 6. On CIFAR-100-LT and digits all lie within .2."""


@dataclass(frozen=True)
class Whitening:
    """x -> ((x - offset) / scale) turned: offset (D,), scale (D,), turn (D, D) symmetric or None, all float64.

    `varies` (D,) is False for a constant column: its scale is 1 and it contributes 0, whatever a later row holds there.
    """

    offset_D: Tensor
    scale_D: Tensor
    varies_D: Tensor
    turn_DD: Tensor | None = None

    def apply(self, features: Tensor) -> Tensor:
        """Raw features (…, D) of any floating type in these coordinates, float32 (…, D).

        The offset is taken off in float64: an offset of 1,000 spreads costs no digits beyond those that storage lost.
        """
        rows_ND = features.reshape(-1, features.shape[-1])
        applied_ND = torch.empty(rows_ND.shape, dtype=torch.float32)
        factor_D, turn_DD = self._factor(), None if self.turn_DD is None else self.turn_DD.float()
        for start in range(0, len(rows_ND), BLOCK_ROWS):
            block_BD = ((rows_ND[start : start + BLOCK_ROWS].double() - self.offset_D) * factor_D).float()
            applied_ND[start : start + BLOCK_ROWS] = block_BD if turn_DD is None else block_BD @ turn_DD
        return applied_ND.view(features.shape)

    def fold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier on raw features that equals (…, C, D) and (…, C) on these coordinates, float32."""
        turned_CD = weight_CD.double() if self.turn_DD is None else weight_CD.double() @ self.turn_DD
        raw_CD = turned_CD * self._factor()
        return raw_CD.float(), (bias_C.double() - raw_CD @ self.offset_D).float()

    def unfold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier on these coordinates that equals a raw (…, C, D) and (…, C) on the training rows, float32."""
        raw_CD = weight_CD.double()
        scaled_CD = raw_CD * self.scale_D
        turned_CD = scaled_CD if self.turn_DD is None else torch.linalg.solve(self.turn_DD, scaled_CD, left=False)
        return turned_CD.float(), (bias_C.double() + raw_CD @ self.offset_D).float()

    def _factor(self) -> Tensor:
        return self.varies_D.double() / self.scale_D


def fit_whitening(
    features_ND: Tensor, labels_N: Tensor, classes: int, shrinkage: float | None = SHRINKAGE
) -> Whitening:
    """Whitening fitted on the training rows (N, D) and labels (N,) of `classes` classes.

    Each column to mean 0 and spread 1, then S^(-1/2) of the shrunk covariance within classes,
    S = (1 - shrinkage) S_w + shrinkage tr(S_w) / D I; with `shrinkage` None the columns alone. Raises ValueError without rows.
    """
    rows = len(features_ND)
    if rows == 0:
        raise ValueError("fit_whitening: no rows")
    width = features_ND.shape[1]
    total_D, square_D = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for block_BD in features_ND.split(BLOCK_ROWS):
        total_D += block_BD.double().sum(dim=0)
    mean_D = total_D / rows
    for block_BD in features_ND.split(BLOCK_ROWS):
        square_D += (block_BD.double() - mean_D).square().sum(dim=0)
    spread_D = (square_D / rows).sqrt()
    varies_D = spread_D > ROUNDING * mean_D.abs()
    columns = Whitening(mean_D, torch.where(varies_D, spread_D, 1.0), varies_D)
    if shrinkage is None:
        return columns
    stride = -(-rows // COVARIANCE_ROWS)
    covariance_DD = within_covariance(columns.apply(features_ND[::stride]), labels_N[::stride], classes)
    return replace(columns, turn_DD=inverse_root(shrunk(covariance_DD, shrinkage)))


def class_means(features_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of each class (C, D) and its rows (C,), float64; a class without rows has mean 0."""
    count_C = torch.bincount(labels_N, minlength=classes).double()
    sum_CD = torch.zeros(classes, features_ND.shape[1], dtype=torch.float64)
    for features_BD, labels_B in zip(features_ND.split(BLOCK_ROWS), labels_N.split(BLOCK_ROWS), strict=True):
        sum_CD.index_add_(0, labels_B, features_BD.double())
    return sum_CD / count_C.clamp(min=1)[:, None], count_C


def within_covariance(features_ND: Tensor, labels_N: Tensor, classes: int) -> Tensor:
    """Covariance within classes, pooled and unbiased, (D, D) float64; 0 where no class has two rows."""
    mean_CD, count_C = class_means(features_ND, labels_N, classes)
    total_DD = torch.zeros(features_ND.shape[1], features_ND.shape[1], dtype=torch.float64)
    for features_BD, labels_B in zip(features_ND.split(BLOCK_ROWS), labels_N.split(BLOCK_ROWS), strict=True):
        within_BD = (features_BD.double() - mean_CD[labels_B]).float()
        total_DD += (within_BD.T @ within_BD).double()
    return total_DD / max(1.0, float((count_C - 1).clamp(min=0).sum()))


def shrunk(covariance_DD: Tensor, shrinkage: float) -> Tensor:
    """(1 - r) S + r tr(S) / D I, (D, D) (Ledoit and Wolf, 2004); the identity where S is 0."""
    scale = float(covariance_DD.diagonal().mean())
    identity_DD = torch.eye(len(covariance_DD), dtype=covariance_DD.dtype)
    return (1 - shrinkage) * covariance_DD + shrinkage * scale * identity_DD if scale > 0 else identity_DD


def inverse_root(covariance_DD: Tensor) -> Tensor:
    """S^(-1/2), symmetric (D, D): columns stay as near to what they were as whitening lets them."""
    value_D, axis_DD = torch.linalg.eigh(covariance_DD)
    return (axis_DD * value_D.clamp(min=1e-10 * float(value_D[-1])).rsqrt()) @ axis_DD.T
