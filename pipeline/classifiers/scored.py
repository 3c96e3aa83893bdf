"""Classifiers that are not linear maps, and how one was chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from pipeline.classifiers.architecture import Architecture
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
    """A classifier that is no linear map: a module that scores features (B, D), and what is added to its scores."""

    network: Architecture
    selection: Selection | None = field(default=None)
    prior_power: float | None = 0.0
    """As in `linear.Classifier`."""
    shift_C: Tensor | None = None

    @property
    def architecture(self) -> str:
        """Which module its tensors are those of."""
        return self.network.NAME

    @property
    def width(self) -> int:
        """D, numbers of a feature."""
        return self.network.sizes["D"]

    def logits(self, features_BD: Tensor) -> Tensor:
        """(B, D) -> (R, B, C), R = 1 for one classifier."""
        blocks = features_BD.float().split(self.network.rows_at_a_time)
        scores_RBC = torch.cat([self.network(block_BD) for block_BD in blocks], dim=1)
        return scores_RBC if self.shift_C is None else scores_RBC + self.shift_C

    def folded(self, coordinates: Coordinates) -> "Scored":
        """The same classifier on raw features; this one acts on features in the coordinates."""
        return replace(self, network=self.network.behind(coordinates))

    def only(self, replicas: Sequence[int]) -> "Scored":
        """The classifiers of these replicas, by their numbers."""
        return replace(self, network=self.network.only(replicas))

    def on(self, device: torch.device) -> "Scored":
        """The same classifier on another device."""
        if self.network.offset.device == device:
            return self
        shift_C = None if self.shift_C is None else self.shift_C.to(device)
        return replace(self, network=self.network.on(device), shift_C=shift_C)

    def moved(self, shift_C: Tensor) -> "Scored":
        """With these numbers added to its logits, (C,)."""
        return replace(self, shift_C=shift_C if self.shift_C is None else self.shift_C + shift_C)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        return self.network.tensors()
