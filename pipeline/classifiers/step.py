"""What a head's loss sees of a training step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits_RBC, labels_RB) -> the sum over replicas of the mean over the batch, so that replicas do not scale each other's
gradients."""


class Heads(Protocol):
    """R classifiers that are trained side by side."""

    @property
    def replicas(self) -> int: ...

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        ...


@dataclass(frozen=True)
class Step:
    """One step: the batch that each replica sees, and how far training is."""

    inputs_RBD: Tensor
    labels_RB: Tensor
    number: int
    """0 for the first step."""
    of: int
    """How many steps there are."""

    @property
    def progress(self) -> float:
        """Share of the steps that are done before this one."""
        return self.number / self.of


StepLoss = Callable[[Any, Step], Tensor]
"""(heads of its own kind, step) -> what is minimised: the sum over replicas of each one's loss."""


def of_logits(loss: Loss) -> StepLoss:
    """The objective of a loss that needs logits and labels alone."""
    return lambda heads, step: loss(heads.logits(step.inputs_RBD), step.labels_RB)


def weighted_mean(loss_RB: Tensor, weight_RB: Tensor) -> Tensor:
    """The sum over replicas of the weighted mean over the batch, as torch's weighted cross entropy has it for each."""
    return ((loss_RB * weight_RB).sum(dim=1) / weight_RB.sum(dim=1)).sum()
