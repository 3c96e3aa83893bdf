"""The distance between the generator's output and the closed form of Eq. 1."""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from pipeline.artefacts.figures import Finite, Natural
from pipeline.stg.fit import HeadRows
from pipeline.stg.generator import VARIANCE_FLOOR, SemanticTransformationGenerator
from pipeline.stg.statistics import closed_form, split_statistics


class Distance(BaseModel):
    """How far the generator's output is from what it should be, on head rows that it has not seen.

    The paper's generator should give the closed form of Eq. 1. A soft generator should give the statistics of the rows that an
    episode does not show. `mean_cosine` and `mean_norm_ratio` (predicted over wanted) are averages over rows. A relative error
    is a squared error over the variance of what was wanted: 1 is no better than one number for all rows and channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: Natural
    mean_cosine: Annotated[Finite, Field(ge=-1.0001, le=1.0001)]
    mean_norm_ratio: Annotated[Finite, Field(ge=0)]
    mean_relative_error: Annotated[Finite, Field(ge=0)]
    zero_shift_ratio: Annotated[Finite, Field(ge=0)]
    """Squared error of the means over that of predicting no shift at all; at 1 or above nothing was learnt."""
    log_variance_relative_error: Annotated[Finite, Field(ge=0)]
    closed_form_ratio: Annotated[Finite, Field(ge=0)] | None = None
    """With stg.similarity=soft: the closed form's error over that of no shift, on the same held-out head classes."""

    @property
    def learnt(self) -> bool:
        """Whether the generator predicts the shift of rows it has not seen better than no shift."""
        return self.zero_shift_ratio < 1


@torch.no_grad()
def distance(stg: SemanticTransformationGenerator, rows: HeadRows) -> Distance:
    """The generator against the closed form of the fitted rows, on the held-out rows' clean features."""
    stg, held_out = stg.eval(), rows.held_out
    statistics = split_statistics(rows.fit, len(rows.heads))
    distances = Distances()
    for rows_B in held_out.blocks():
        features_BD, labels_B = held_out.gather(0, rows_B), held_out.labels_N[rows_B]
        mean_BD, variance_BD = stg(features_BD, labels_B)
        wanted_BD, wanted_variance_BD = closed_form(features_BD, labels_B, statistics)
        distances.add(mean_BD, variance_BD, wanted_BD, wanted_variance_BD)
    return distances.result()


@dataclass
class _Errors:
    """Sums over blocks for the squared error relative to the variance of what is wanted."""

    count: int = 0
    error: float = 0.0
    total: float = 0.0
    square: float = 0.0

    def add(self, predicted: Tensor, wanted: Tensor) -> None:
        self.count += wanted.numel()
        self.error += float((predicted - wanted).double().square().sum())
        self.total += float(wanted.double().sum())
        self.square += float(wanted.double().square().sum())

    def relative(self) -> float:
        spread = self.square / self.count - (self.total / self.count) ** 2
        return self.error / self.count / max(spread, 1e-12)


@dataclass
class Distances:
    """Sums over blocks of rows, from which a Distance is made."""

    rows: int = 0
    cosine: float = 0.0
    ratio: float = 0.0
    means: _Errors = field(default_factory=_Errors)
    logs: _Errors = field(default_factory=_Errors)

    def add(self, mean_BD: Tensor, variance_BD: Tensor, wanted_BD: Tensor, wanted_variance_BD: Tensor) -> None:
        """Predicted shifts and variances of some rows, and those that were wanted."""
        self.rows += len(mean_BD)
        self.means.add(mean_BD, wanted_BD)
        self.logs.add((variance_BD + VARIANCE_FLOOR).log(), (wanted_variance_BD + VARIANCE_FLOOR).log())
        self.cosine += float(functional.cosine_similarity(mean_BD, wanted_BD).double().sum())
        self.ratio += float((mean_BD.norm(dim=1) / wanted_BD.norm(dim=1).clamp(min=1e-12)).double().sum())

    def result(self, closed_form_ratio: float | None = None) -> Distance:
        """The means over all rows."""
        return Distance(
            rows=self.rows,
            mean_cosine=self.cosine / self.rows,
            mean_norm_ratio=self.ratio / self.rows,
            mean_relative_error=self.means.relative(),
            zero_shift_ratio=self.means.error / max(self.means.square, 1e-30),
            log_variance_relative_error=self.logs.relative(),
            closed_form_ratio=closed_form_ratio,
        )
