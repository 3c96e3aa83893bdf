"""L-BFGS (Liu and Nocedal, 1989) for many problems side by side, each at its own step length."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers.logistic_loss import LogisticLoss, dot
from pipeline.progress import Track

ROUNDING = 1e-5
"""A gradient smaller than this, in the same norm, is the rounding of float32: the loss could still fall by half its square."""

MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS remembers."""


@dataclass(frozen=True)
class _Pair:
    """One taken step of each problem that L-BFGS remembers; both are 0 for a problem whose step was not taken."""

    moved_AK: Tensor
    """By how much the parameters changed, flat."""
    change_AK: Tensor
    """By how much the gradient changed."""
    inverse_A: Tensor
    """1 / (moved . change), 0 where that is not positive: the pair then says nothing."""
    scale_A: Tensor
    """How far the expected curvature was wrong along this step; NaN where the pair says nothing."""

    @staticmethod
    def of(problem: LogisticLoss, moved_ACD: Tensor, change_ACD: Tensor) -> "_Pair":
        moved_AK, change_AK = moved_ACD.flatten(1), change_ACD.flatten(1)
        product_A = dot(moved_AK, change_AK)
        square_A = dot(change_AK, problem.soften(change_ACD).flatten(1)).clamp(min=1e-38)
        inverse_A = torch.where(product_A > 0, 1 / product_A, 0.0)
        return _Pair(moved_AK, change_AK, inverse_A, torch.where(product_A > 0, product_A / square_A, torch.nan))

    def only(self, kept_A: Tensor) -> "_Pair":
        return _Pair(self.moved_AK[kept_A], self.change_AK[kept_A], self.inverse_A[kept_A], self.scale_A[kept_A])


def minimise(
    problem: LogisticLoss, start_PCD: Tensor, wanted_P: Tensor, limit: int, bar: Track
) -> tuple[Tensor, Tensor, int]:
    """Each problem's minimum (P, C, D), whether it was reached (P,), and the evaluations made.

    `wanted_P` is the size of the gradient below which a problem is done. Every step evaluates the problems that are not done,
    each at its own step length; one that overshot halves it. `bar` counts steps, out of as many as the gradient will take at the
    rate at which it has fallen, and says how far it is from that size.
    """
    result_PCD, done_P = start_PCD.clone(), torch.zeros(len(start_PCD), dtype=torch.bool)
    active_A = torch.arange(len(start_PCD))
    at_ACD, (loss_A, gradient_ACD) = start_PCD, problem.loss(start_PCD)
    wanted_A = wanted_P.clamp(min=ROUNDING)
    first = float((problem.size(gradient_ACD) / wanted_A).max())
    memory: list[_Pair] = []
    length_A = torch.ones(len(start_PCD))
    direction_ACD = -problem.soften(gradient_ACD)
    for step in range(1, limit + 1):
        slope_A = dot(direction_ACD.flatten(1), gradient_ACD.flatten(1)).double()
        tried_ACD = torch.addcmul(at_ACD, length_A[:, None, None], direction_ACD)
        tried_loss_A, tried_gradient_ACD = problem.loss(tried_ACD)
        noise_A = 1e-7 * loss_A.abs()
        taken_A = tried_loss_A <= loss_A + 1e-4 * length_A * slope_A + noise_A
        taken_A11 = taken_A[:, None, None]
        moved_ACD, change_ACD = (tried_ACD - at_ACD) * taken_A11, (tried_gradient_ACD - gradient_ACD) * taken_A11
        memory = [*memory[-MEMORY + 1 :], _Pair.of(problem, moved_ACD, change_ACD)]
        at_ACD = torch.where(taken_A11, tried_ACD, at_ACD)
        gradient_ACD = torch.where(taken_A11, tried_gradient_ACD, gradient_ACD)
        loss_A = torch.where(taken_A, tried_loss_A, loss_A)
        length_A = torch.where(taken_A, 1.0, 0.5 * length_A)
        size_A = problem.size(gradient_ACD)
        reached_A = size_A <= wanted_A
        times = float((size_A / wanted_A).max())
        bar.detail(f"gradient {times:.3g} times the one that ends it")
        bar.total = steps_expected(step, first, times, limit)
        bar.advance()
        if bool(reached_A.any()):
            result_PCD[active_A[reached_A]], done_P[active_A[reached_A]] = at_ACD[reached_A], True
            kept_A = ~reached_A
            if not bool(kept_A.any()):
                return result_PCD, done_P, step
            problem, active_A, wanted_A, length_A = (
                problem.only(kept_A),
                active_A[kept_A],
                wanted_A[kept_A],
                length_A[kept_A],
            )
            at_ACD, gradient_ACD, loss_A = at_ACD[kept_A], gradient_ACD[kept_A], loss_A[kept_A]
            memory = [pair.only(kept_A) for pair in memory]
        direction_ACD = -_inverse_curvature(problem, gradient_ACD, memory)
    result_PCD[active_A] = at_ACD
    return result_PCD, done_P, limit


def steps_expected(step: int, first: float, times: float, limit: int) -> int:
    """How many steps take the gradient from `first` times the one that ends the search to 1, where `step` of them took it to
    `times`, each by the same factor; `limit` where it has not fallen."""
    if not 1 < times < first:
        return step if times <= 1 else limit
    return min(limit, math.ceil(step * math.log(first) / math.log(first / times)))


def _inverse_curvature(problem: LogisticLoss, gradient_ACD: Tensor, memory: list[_Pair]) -> Tensor:
    """L-BFGS's two-loop recursion for each problem: the inverse Hessian, as remembered, times the gradient."""
    direction_AK = gradient_ACD.flatten(1).clone()
    scale_A = torch.ones(len(direction_AK))
    shares: list[Tensor] = []
    for pair in reversed(memory):
        shares.append(pair.inverse_A * dot(pair.moved_AK, direction_AK))
        direction_AK.addcmul_(shares[-1][:, None], pair.change_AK, value=-1)
    for pair in memory:
        scale_A = torch.where(pair.scale_A.isnan(), scale_A, pair.scale_A)
    direction_AK = problem.soften(direction_AK.view_as(gradient_ACD)).flatten(1) * scale_A[:, None]
    for pair, share_A in zip(memory, reversed(shares), strict=True):
        back_A = pair.inverse_A * dot(pair.change_AK, direction_AK)
        direction_AK.addcmul_((share_A - back_A)[:, None], pair.moved_AK)
    return direction_AK.view_as(gradient_ACD)
