"""Standardised coordinates for stages 2 and 3, so that neither unit nor offset of a feature matters. Pure.

Each column is centred and divided by its standard deviation over the training rows. A column that differs in a few rows only
has a spread that says nothing of other rows, so it counts less. A classifier that is learnt in these coordinates is converted
back before it is saved, so that it takes raw features.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PART_VALUES = 1 << 18
"""Values that are summed at a time. A processor's cache holds them; over a larger block, sums down the columns take up to forty
times as long."""
ROUNDING = 4 * torch.finfo(torch.float32).eps
"""A spread below this share of the column's mean is the rounding of float32: the column is constant."""
SUPPORT = 16
"""Effective rows that a column's variance must rest on to count in full; with fewer than 128 rows an eighth of these. A
backbone leaves many columns at nearly one value on images unlike its own. One that differs by .001 in a single row has a spread
that a new row can exceed 5,000 times. RESULTS.md has what other limits gain."""


@dataclass(frozen=True)
class Coordinates:
    """x -> (x - offset) / scale for each column: offset (D,), scale (D,), float32; `varies` (D,) is False for a constant.

    The scale is the spread, or more for a column whose variance rests on a few rows (SUPPORT). A constant column has scale 1
    and contributes 0, whatever a later row holds there. The offset is rounded to float32: that moves the origin by less than
    1e-4 spreads where the offset is 1,000 of them, the same for every row.
    """

    offset_D: Tensor
    scale_D: Tensor
    varies_D: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Raw features (…, D) of any floating type in these coordinates, float32 (…, D).

        Values near the offset are exact differences in float32: an offset of 1,000 spreads costs no digits beyond those that
        storage lost.
        """
        return (features.float() - self.offset_D).mul_(self.factor_D)

    def fold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (…, C, D) and bias (…, C) for these coordinates -> those that give the same logits on raw features, float32."""
        raw_CD = weight_CD.double() * self.factor_D.double()
        return raw_CD.float(), (bias_C.double() - raw_CD @ self.offset_D.double()).float()

    def unfold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """Weight (…, C, D) and bias (…, C) for raw features -> those for these coordinates, float32.

        On the training rows both give the same logits.
        """
        raw_CD = weight_CD.double()
        scaled_CD = raw_CD * self.scale_D.double()
        return scaled_CD.float(), (bias_C.double() + raw_CD @ self.offset_D.double()).float()

    @cached_property
    def factor_D(self) -> Tensor:
        """1 / scale, 0 for a constant column."""
        return self.varies_D.float() / self.scale_D


def fit_coordinates(blocks: Callable[[], Iterable[Tensor]], by_support: bool = True) -> Coordinates:
    """Each column's mean and standard deviation over the training rows; `blocks()` gives them as (B, D), twice.

    With `by_support` a column counts by its effective rows, else in full. They are (sum d^2)^2 / sum d^4, d a row's distance
    from the mean: 1 where a single one differs, m where m do alike, a third of them for a normal distribution. From 1 to SUPPORT
    of them the column's share grows evenly from 0 to 1; its standard deviation is divided by that. So a spread that few rows
    decide costs little when it is wrong, and no unit matters.

    Sums are float64 and centred. Raises ValueError without rows.
    """
    rows, mean_D = 0, torch.zeros((), dtype=torch.float64)
    for part_BD in _parts(blocks()):
        rows += len(part_BD)
        mean_D = mean_D + part_BD.double().sum(dim=0)
    if rows == 0:
        raise ValueError("fit_coordinates: no rows")
    offset_D = (mean_D / rows).float()
    square_D, fourth_D = torch.zeros_like(mean_D), torch.zeros_like(mean_D)
    for part_BD in _parts(blocks()):
        square_BD = (part_BD.float() - offset_D).square_().double()
        square_D += square_BD.sum(dim=0)
        fourth_D += square_BD.square_().sum(dim=0)
    spread_D = (square_D / rows).sqrt().float()
    share_D = _share(square_D.square() / fourth_D, rows if by_support else 0).float()
    varies_D = (spread_D > ROUNDING * offset_D.abs()) & (share_D > 0)
    return Coordinates(offset_D, torch.where(varies_D, spread_D / share_D, 1.0), varies_D)


def _share(effective_D: Tensor, rows: int) -> Tensor:
    """From 0 to 1: how much a column counts whose variance rests on so many effective rows; 1 for NaN, a constant's."""
    wanted = min(SUPPORT, rows / 8)
    if wanted <= 1:
        return torch.ones_like(effective_D)
    return ((effective_D.nan_to_num(nan=wanted) - 1) / (wanted - 1)).clamp(0, 1)


def _parts(blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    for block_BD in blocks:
        yield from block_BD.split(max(1, PART_VALUES // block_BD.shape[1]))
