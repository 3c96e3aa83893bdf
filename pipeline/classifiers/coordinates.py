"""Coordinates of their own for stages 2 and 3: no unit and no offset of the features matters. Pure.

Each column is centred and divided by its spread over the training rows. A classifier learnt there is folded back, so that
what is saved acts on raw features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_ROWS = 8192
"""Rows that are taken to float64 at a time."""

ROUNDING = 4 * torch.finfo(torch.float32).eps
"""A spread below this share of the column's mean is the rounding of float32: the column is constant."""


@dataclass(frozen=True)
class Coordinates:
    """x -> (x - offset) / scale for each column: offset (D,), scale (D,) float64; `varies` (D,) is False for a constant.

    A constant column has scale 1 and contributes 0, whatever a later row holds there.
    """

    offset_D: Tensor
    scale_D: Tensor
    varies_D: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Raw features (…, D) of any floating type in these coordinates, float32 (…, D).

        The offset is taken off in float64: an offset of 1,000 spreads costs no digits beyond those that storage lost.
        """
        width = features.shape[-1]
        rows_ND = features.reshape(-1, width)
        applied_ND = torch.empty(rows_ND.shape, dtype=torch.float32)
        factor_D = self._factor()
        for start in range(0, len(rows_ND), BLOCK_ROWS):
            block_BD = rows_ND[start : start + BLOCK_ROWS].double()
            applied_ND[start : start + BLOCK_ROWS] = (block_BD - self.offset_D) * factor_D
        return applied_ND.view(features.shape)

    def fold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier on raw features that equals (…, C, D) and (…, C) on these coordinates, float32."""
        raw_CD = weight_CD.double() * self._factor()
        return raw_CD.float(), (bias_C.double() - raw_CD @ self.offset_D).float()

    def unfold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """The classifier on these coordinates that equals a raw (…, C, D) and (…, C) on the training rows, float32."""
        raw_CD = weight_CD.double()
        return (raw_CD * self.scale_D).float(), (bias_C.double() + raw_CD @ self.offset_D).float()

    def _factor(self) -> Tensor:
        return self.varies_D.double() / self.scale_D


def fit_coordinates(features_ND: Tensor, labels_N: Tensor, classes: int) -> Coordinates:
    """Each column's mean and standard deviation over the training rows (N, D).

    Labels and classes are not used by this choice of coordinates; the arguments stand for those that do.
    Raises ValueError without rows.
    """
    rows = len(features_ND)
    if rows == 0:
        raise ValueError("fit_coordinates: no rows")
    width = features_ND.shape[1]
    total_D, square_D = torch.zeros(width, dtype=torch.float64), torch.zeros(width, dtype=torch.float64)
    for block_BD in features_ND.split(BLOCK_ROWS):
        total_D += block_BD.double().sum(dim=0)
    mean_D = total_D / rows
    for block_BD in features_ND.split(BLOCK_ROWS):
        square_D += (block_BD.double() - mean_D).square().sum(dim=0)
    spread_D = (square_D / rows).sqrt()
    varies_D = spread_D > ROUNDING * mean_D.abs()
    return Coordinates(mean_D, torch.where(varies_D, spread_D, 1.0), varies_D)
