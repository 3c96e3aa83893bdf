"""Classifiers that are not linear maps, and how one was chosen."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from pipeline.coordinates import Coordinates


class Selection(BaseModel):
    """How an arm was chosen: on what, by which metric, its score there in percent, and what it is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: str
    metric: str | None = None
    score: float | None = None
    certain: bool | None = None
    """Whether the likeliest member leads the next by more than two standard errors."""
    members: dict[str, float] = {}
    """Each member's share."""


@dataclass(frozen=True)
class Scored:
    """A classifier that gives scores of features (B, D) in coordinates, and the tensors it is made of."""

    scores: Callable[[Tensor], Tensor]
    """(B, D) -> (B, C), or (R, B, C) of R replicas."""
    parts: dict[str, Tensor]
    coordinates: Coordinates | None = None
    selection: Selection | None = field(default=None)
    prior_power: float | None = 0.0
    """As in `linear.Classifier`."""

    def logits(self, features_BD: Tensor) -> Tensor:
        """(B, D) -> (R, B, C), R = 1 for one classifier."""
        inputs_BD = features_BD if self.coordinates is None else self.coordinates.apply(features_BD)
        scores = self.scores(inputs_BD)
        return scores if scores.dim() == 3 else scores[None]

    def folded(self, coordinates: Coordinates) -> "Scored":
        """The same classifier on raw features; this one acts on features in the coordinates."""
        return Scored(self.scores, self.parts, coordinates, self.selection, self.prior_power)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        if self.coordinates is None:
            return self.parts
        return {**self.parts, "offset": self.coordinates.offset_D, "scale": self.coordinates.scale_D}
