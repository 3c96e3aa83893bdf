"""Muon (Jordan et al., 2024): momentum whose singular values are all made about 1 before it moves a matrix of weights."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of x <- a x + (b A + c A^2) x with A = x x': they take singular values in (0, 1] to about 1 in few rounds."""
ROUNDS = 5
LEAST_NORM = 1e-7
"""Added to a norm that is divided by."""


class Muon(Optimizer):
    """Muon for weights of two dimensions or more; a convolution's is the matrix (filters, channels x height x width).

    The same as torch.optim.Muon, which takes matrices alone, one at a time, and computes in bf16 everywhere: on a processor
    that emulates it a ResNet-32 takes ten times as long for it. Here matrices of one shape are taken together, and in
    float32 unless `dtype` says otherwise. A step at rate r: B <- m B + (1 - m) G; O = `orthogonal` of m B + (1 - m) G;
    W <- (1 - r decay) W - r max(1, rows / columns)^1/2 O.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move each weight that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[len(weight), weight[0].numel()].append(weight)
            for (rows, columns), weights in alike.items():
                rate = group["lr"] * max(1, rows / columns) ** 0.5
                momentum_KRC = torch.stack([self._ahead(weight, group["momentum"]).flatten(1) for weight in weights])
                for weight, direction_RC in zip(weights, orthogonal(momentum_KRC, self.dtype), strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.sub_(direction_RC.view(weight.shape), alpha=rate)

    def _ahead(self, weight: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's look ahead on the momentum, which takes in the gradient."""
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        return weight.grad.lerp(state["momentum_buffer"].lerp_(weight.grad, 1 - momentum), momentum)


def orthogonal(matrix_KRC: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V' of each matrix U S V', float32 (K, R, C), by a Newton-Schulz iteration in `dtype`.

    Singular values become .7 to 1.2, not 1; those below .0015 of the Frobenius norm stay smaller.
    """
    is_tall = matrix_KRC.shape[1] > matrix_KRC.shape[2]
    x_KRC = matrix_KRC.to(dtype)
    x_KRC = x_KRC.mT if is_tall else x_KRC
    x_KRC = x_KRC / (x_KRC.norm(dim=(1, 2), keepdim=True) + LEAST_NORM)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        gram_KRR = x_KRC @ x_KRC.mT
        x_KRC = torch.baddbmm(x_KRC, torch.baddbmm(gram_KRR, gram_KRR, gram_KRR, beta=b, alpha=c), x_KRC, beta=a)
    return (x_KRC.mT if is_tall else x_KRC).float()
