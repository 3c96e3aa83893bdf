"""Linear classifiers of R replicas as one batched tensor, and their optimisers. Seeds and settings train side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.classifiers.scored import Selection
from pipeline.coordinates import Coordinates
from pipeline.rng import generator


@dataclass
class LinearHeads:
    """scale_c (w_c x + b_c) for each replica: weight (R, C, D), bias (R, C), scale (R, C)."""

    weight_RCD: Tensor
    bias_RC: Tensor
    scale_RC: Tensor

    @property
    def replicas(self) -> int:
        return len(self.bias_RC)

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        logits_RBC = torch.baddbmm(self.bias_RC[:, None], features_RBD, self.weight_RCD.transpose(1, 2))
        return logits_RBC * self.scale_RC[:, None]

    def folded(self) -> tuple[Tensor, Tensor]:
        """The same classifiers as plain weight (R, C, D) and bias (R, C)."""
        return self.weight_RCD * self.scale_RC[..., None], self.bias_RC * self.scale_RC


def from_classifier(weight_CD: Tensor, bias_C: Tensor, replicas: int) -> LinearHeads:
    """R copies of one classifier, scale 1."""
    weight_RCD = weight_CD.float().expand(replicas, -1, -1).clone()
    bias_RC = bias_C.float().expand(replicas, -1).clone()
    return LinearHeads(weight_RCD, bias_RC, torch.ones_like(bias_RC))


def from_classifiers(weight_RCD: Tensor, bias_RC: Tensor) -> LinearHeads:
    """One head a given classifier, scale 1."""
    return LinearHeads(weight_RCD, bias_RC, torch.ones_like(bias_RC))


def fresh(classes: int, width: int, seeds: Sequence[int]) -> LinearHeads:
    """A new classifier a seed, U(-1/sqrt(D), 1/sqrt(D)), as torch.nn.Linear starts."""
    bound = 1 / math.sqrt(width)
    drawn = [torch.rand(classes, width + 1, generator=generator(seed, "head")) for seed in seeds]
    values = (2 * torch.stack(drawn) - 1) * bound
    bias_RC = values[..., -1].contiguous()
    return LinearHeads(values[..., :-1].contiguous(), bias_RC, torch.ones_like(bias_RC))


class ReplicaOptimizer:
    """Adam or SGD with momentum, with a learning rate a replica; each tensor's first axis is R.

    The formulas of torch.optim.Adam (Kingma and Ba, 2015) and torch.optim.SGD; those take one rate for all of a tensor.
    """

    def __init__(
        self, parameters: list[Tensor], kind: str, momentum: float = 0.9, weight_decay: float = 0.0, eps: float = 1e-8
    ) -> None:
        if kind not in ("adam", "sgd"):
            raise ValueError(f"ReplicaOptimizer: unknown kind {kind!r}; wanted adam or sgd")
        self.parameters, self.kind = parameters, kind
        self.momentum, self.weight_decay, self.eps = momentum, weight_decay, eps
        self._steps = 0
        self._first = [torch.zeros_like(parameter) for parameter in parameters]
        self._second = [torch.zeros_like(parameter) for parameter in parameters] if kind == "adam" else []

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rates: Sequence[Tensor]) -> None:
        """One update in place; `rates` holds, for each parameter, a learning rate a replica, (R,)."""
        self._steps += 1
        for position, (parameter, gradient, rate_R) in enumerate(zip(self.parameters, gradients, rates, strict=True)):
            if self.weight_decay:
                gradient = gradient + self.weight_decay * parameter
            rate = rate_R.view(-1, *([1] * (parameter.dim() - 1)))
            direction = self._adam(position, gradient) if self.kind == "adam" else self._sgd(position, gradient)
            parameter.sub_(rate * direction)

    def _adam(self, position: int, gradient: Tensor, beta1: float = 0.9, beta2: float = 0.999) -> Tensor:
        first = self._first[position].lerp_(gradient, 1 - beta1)
        second = self._second[position].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (second.sqrt() / math.sqrt(1 - beta2**self._steps)).add_(self.eps)
        return (first / (1 - beta1**self._steps)) / denominator

    def _sgd(self, position: int, gradient: Tensor) -> Tensor:
        return self._first[position].mul_(self.momentum).add_(gradient)


@dataclass(frozen=True)
class Classifier:
    """R linear classifiers: weight (R, C, D), bias (R, C)."""

    weight_RCD: Tensor
    bias_RC: Tensor
    selection: Selection | None = None
    prior_power: float | None = 0.0
    """How much of the training prior is in the logits: they are log probabilities, up to a constant a row, where class c has the
    prior n_c^power. 0 is a flat prior, 1 the training rows' own; None: the scores are no log probabilities."""

    architecture = "linear"

    @property
    def width(self) -> int:
        """D, numbers of a feature."""
        return self.weight_RCD.shape[2]

    def logits(self, features_BD: Tensor) -> Tensor:
        """(B, D) -> (R, B, C)."""
        pairs = zip(self.weight_RCD, self.bias_RC, strict=True)
        return torch.stack([torch.addmm(bias_C, features_BD, weight_CD.T) for weight_CD, bias_C in pairs])

    def folded(self, coordinates: Coordinates) -> "Classifier":
        """The same classifiers on raw features; these act on features in the coordinates."""
        return Classifier(*coordinates.fold(self.weight_RCD, self.bias_RC), self.selection, self.prior_power)

    def only(self, replicas: Sequence[int]) -> "Classifier":
        """The classifiers of these replicas, by their numbers."""
        chosen = list(replicas)
        return replace(self, weight_RCD=self.weight_RCD[chosen], bias_RC=self.bias_RC[chosen])

    def moved(self, shift_C: Tensor) -> "Classifier":
        """With these numbers added to its logits, (C,)."""
        return replace(self, bias_RC=self.bias_RC + shift_C)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        return {"weight": self.weight_RCD, "bias": self.bias_RC}
