"""Linear classifiers of R replicas as one batched tensor, and their optimisers. Seeds and settings train side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.optim.adam import adam

from pipeline.classifiers.scored import Selection
from pipeline.coordinates import Coordinates
from pipeline.rng import generator, sampled

BETAS = (0.9, 0.999)
"""Of Adam, as its paper recommends."""
FUSED = 1 << 18
"""Numbers of a replica's tensor above which Adam is torch's fused kernel. It reads each number once, where the formula, written
out, passes over all of them ten times; that matters where they are more than a processor's cache holds."""


class _Affine(Function):
    """(R, B, D), (R, C, D), (R, C) -> x W' + b, (R, B, C).

    torch's own gradient of the weights is the same bits, but lies in memory as (R, D, C). The optimiser would then jump from
    number to number.
    """

    @staticmethod
    def forward(ctx: Any, features_RBD: Tensor, weight_RCD: Tensor, bias_RC: Tensor) -> Tensor:
        ctx.save_for_backward(features_RBD, weight_RCD)
        return torch.baddbmm(bias_RC[:, None], features_RBD, weight_RCD.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient_RBC,) = gradients
        features_RBD, weight_RCD = ctx.saved_tensors
        of_features, of_weight, of_bias = ctx.needs_input_grad
        return (
            gradient_RBC.bmm(weight_RCD) if of_features else None,
            gradient_RBC.transpose(1, 2).bmm(features_RBD) if of_weight else None,
            gradient_RBC.sum(dim=1) if of_bias else None,
        )


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
        logits_RBC: Tensor = _Affine.apply(features_RBD, self.weight_RCD, self.bias_RC)
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
    drawn = [sampled(torch.rand, classes, width + 1, generator=generator(seed, "head")) for seed in seeds]
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
            if self.kind == "adam" and parameter[0].numel() > FUSED:
                self._fused_adam(position, gradient.contiguous(), rate_R)
                continue
            if self.weight_decay:
                gradient = gradient + self.weight_decay * parameter
            rate = rate_R.view(-1, *([1] * (parameter.dim() - 1)))
            direction = self._adam(position, gradient) if self.kind == "adam" else self._sgd(position, gradient)
            parameter.sub_(rate * direction)

    def _adam(self, position: int, gradient: Tensor) -> Tensor:
        beta1, beta2 = BETAS
        first = self._first[position].lerp_(gradient, 1 - beta1)
        second = self._second[position].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        denominator = (second.sqrt() / math.sqrt(1 - beta2**self._steps)).add_(self.eps)
        return (first / (1 - beta1**self._steps)) / denominator

    def _fused_adam(self, position: int, gradient: Tensor, rate_R: Tensor) -> None:
        parameter, first, second = self.parameters[position], self._first[position], self._second[position]
        for replica, rate in enumerate(rate_R.tolist()):
            before = torch.tensor(self._steps - 1.0, device=parameter.device)
            adam(
                [parameter[replica]], [gradient[replica]], [first[replica]], [second[replica]], [], [before], fused=True,
                amsgrad=False, beta1=BETAS[0], beta2=BETAS[1], lr=rate, weight_decay=self.weight_decay, eps=self.eps,
                maximize=False,
            )  # fmt: skip

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

    def on(self, device: torch.device) -> "Classifier":
        """The same classifiers on another device."""
        return replace(self, weight_RCD=self.weight_RCD.to(device), bias_RC=self.bias_RC.to(device))

    def moved(self, shift_C: Tensor) -> "Classifier":
        """With these numbers added to its logits, (C,)."""
        return replace(self, bias_RC=self.bias_RC + shift_C)

    def tensors(self) -> dict[str, Tensor]:
        """What is saved."""
        return {"weight": self.weight_RCD, "bias": self.bias_RC}
