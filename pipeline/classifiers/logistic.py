"""L2 logistic regression, many strengths and folds side by side in one batched program. Pure, deterministic.

The plain arm that is hardest to beat on features of a foundation model: natural sampling, then logit adjustment
(`post_hoc.logit_adjustment`). Features are expected in `coordinates`, where a strength means the same for every unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.progress import Track, track

BLOCK_VALUES = 1 << 23
"""Logits that are held at a time, 32 MiB."""

ROUNDING = 1e-5
"""A gradient smaller than this, in the same norm, is the rounding of float32: the loss could still fall by half its square."""

MEMORY = 10
"""Pairs of steps and gradient changes that L-BFGS remembers."""


@dataclass(frozen=True)
class LogisticFit:
    """P = folds x strengths linear classifiers: weight (F, S, C, D), bias (F, S, C), float32; and whether each converged.

    The bias of a class without rows is -inf: it is never predicted.
    """

    weight_FSCD: Tensor
    bias_FSC: Tensor
    converged_FS: Tensor
    steps: int
    axes_DD: Tensor
    """The axes that the search worked in, for a further search on rows like these."""

    def only(self, position: int) -> "LogisticFit":
        """The fits of one of the strengths."""
        kept = slice(position, position + 1)
        weight_FSCD, bias_FSC, converged_FS = (
            self.weight_FSCD[:, kept],
            self.bias_FSC[:, kept],
            self.converged_FS[:, kept],
        )
        return LogisticFit(weight_FSCD, bias_FSC, converged_FS, self.steps, self.axes_DD)


def fit_logistic(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    strengths: Sequence[float],
    weights_FN: Tensor | None = None,
    tolerance: float = 1e-3,
    limit: int = 300,
    near: LogisticFit | None = None,
) -> LogisticFit:
    """The minimum over (W, b) of sum_i w_i CE(W x_i + b, y_i) / sum_i w_i + strength / 2 |W|^2, for each fold and strength.

    `weights_FN` holds a row weight for each fold, 0 for rows held out; without it one fold of all rows, each weighing 1. The
    bias is not penalised. Minimised by L-BFGS (Liu and Nocedal, 1989) with a step halved until the loss falls (Armijo). A
    problem is done once its gradient is below `tolerance` of what it is at zero weights and the prior's bias, in the norm of
    the inverse curvature expected there, in which a class of few rows counts as much as any.

    `near` is a fit to nearly the same rows, of as many folds and strengths: the search starts there, which saves steps. It
    changes the minimum by no more than the tolerance. It must not have seen rows that this fit is to be tested on.
    """
    weights_FN = torch.ones(1, len(labels_N)) if weights_FN is None else weights_FN
    turn_DD = _principal_axes(features_ND) if near is None else near.axes_DD
    features_ND = torch.cat([features_ND.float() @ turn_DD, torch.ones(len(features_ND), 1)], dim=1)
    spread_D = torch.linalg.vector_norm(features_ND[:, :-1], dim=0).double().square() / len(features_ND)
    share_FN = (weights_FN.double() / weights_FN.double().sum(dim=1, keepdim=True)).float()
    prior_FC = torch.zeros(len(share_FN), classes, dtype=torch.float64).index_add_(1, labels_N, share_FN.double())
    strength_P = torch.tensor(strengths, dtype=torch.float64).repeat(len(share_FN))
    problem = _Problem(
        features_ND,
        labels_N,
        share_FN.repeat_interleave(len(strengths), 0),
        strength_P,
        _softness(prior_FC, strength_P, spread_D),
    )
    shape = (len(share_FN), len(strengths))
    bias_FSC = prior_FC.clamp(min=1e-12).log().float()[:, None].expand(*shape, classes)
    start_FSCD = torch.zeros(*shape, classes, features_ND.shape[1])
    start_FSCD[..., -1] = bias_FSC
    wanted_P = tolerance * problem.size(problem.at_the_prior(prior_FC.repeat_interleave(len(strengths), 0)))
    if near is not None:
        start_FSCD[..., :-1] = near.weight_FSCD @ turn_DD
        start_FSCD[..., -1] = torch.where(torch.isfinite(near.bias_FSC), near.bias_FSC, bias_FSC)
    with track(limit, "logistic", "steps") as bar:
        found_PCD, converged_P, steps = _minimise(problem, start_FSCD.flatten(0, 1), wanted_P, limit, bar)
    found_FSCD = found_PCD.view(*shape, classes, -1)
    bias_FSC = found_FSCD[..., -1].masked_fill(prior_FC[:, None] == 0, -torch.inf)
    return LogisticFit(found_FSCD[..., :-1] @ turn_DD.T, bias_FSC, converged_P.view(shape), steps, turn_DD)


@dataclass(frozen=True)
class _Problem:
    """Rows with a column of ones (N, D + 1), labels (N,), each problem's share of each row (P, N) and its strength (P,)."""

    features_ND: Tensor
    labels_N: Tensor
    share_PN: Tensor
    strength_P: Tensor
    softness_PCD: Tensor
    """The inverse of the curvature expected of each class's weights and of its bias."""

    def only(self, kept_P: Tensor) -> "_Problem":
        kept = (field[kept_P] for field in (self.share_PN, self.strength_P, self.softness_PCD))
        return _Problem(self.features_ND, self.labels_N, *kept)

    def soften(self, gradient_PCD: Tensor) -> Tensor:
        """A gradient (P, C, D + 1) times the inverse of the curvature expected."""
        return gradient_PCD * self.softness_PCD

    def size(self, gradient_PCD: Tensor) -> Tensor:
        """Each problem's norm of the gradient, (P,)."""
        return _dot(gradient_PCD.flatten(1), self.soften(gradient_PCD).flatten(1)).sqrt()

    def at_the_prior(self, prior_PC: Tensor) -> Tensor:
        """The gradient (P, C, D + 1) at zero weights and the prior's biases: every row has the prior's probabilities there."""
        gradient_PCD = prior_PC.float()[..., None] * (self.share_PN @ self.features_ND)[:, None]
        for gradient_CD, share_N in zip(gradient_PCD, self.share_PN, strict=True):
            gradient_CD.index_add_(0, self.labels_N, share_N[:, None] * self.features_ND, alpha=-1)
        return gradient_PCD

    def loss(self, parameters_PCD: Tensor) -> tuple[Tensor, Tensor]:
        """Each problem's loss (P,), float64, and gradient (P, C, D + 1)."""
        problems, classes, width = parameters_PCD.shape
        weight_PCD = parameters_PCD.clone()
        weight_PCD[..., -1] = 0
        # In float64: steps near the minimum are compared by the loss's last digits.
        loss_P = 0.5 * self.strength_P * weight_PCD.double().square().sum(dim=(1, 2))
        gradient_PCD = self.strength_P.float()[:, None, None] * weight_PCD
        flat_KD, flat_gradient_KD = parameters_PCD.view(-1, width), gradient_PCD.view(-1, width)
        for rows_B in torch.arange(len(self.labels_N)).split(max(1, BLOCK_VALUES // (problems * classes))):
            block = slice(int(rows_B[0]), int(rows_B[-1]) + 1)
            features_BD, share_BP = self.features_ND[block], self.share_PN[:, block].T
            logits_BPC = (features_BD @ flat_KD.T).view(-1, problems, classes)
            logits_BPC -= logits_BPC.amax(dim=2, keepdim=True)
            picked_BP1 = self.labels_N[block, None, None].expand(-1, problems, 1)
            true_BP = logits_BPC.gather(2, picked_BP1)[..., 0]
            total_BP = logits_BPC.exp_().sum(dim=2)
            loss_P += (share_BP * (total_BP.log() - true_BP)).double().sum(dim=0)
            logits_BPC *= (share_BP / total_BP)[..., None]
            logits_BPC.scatter_add_(2, picked_BP1, -share_BP[..., None])
            flat_gradient_KD.addmm_(logits_BPC.view(len(rows_B), -1).T, features_BD)
        return loss_P, gradient_PCD


def _principal_axes(features_ND: Tensor) -> Tensor:
    """The principal axes (D, D). The penalty does not change under a rotation."""
    square_DD = (features_ND.float().T @ features_ND.float()).double() / len(features_ND)
    return torch.linalg.eigh(square_DD).eigenvectors.float()


def _softness(prior_FC: Tensor, strength_P: Tensor, spread_D: Tensor) -> Tensor:
    """One over a class's expected curvature (P, C, D + 1): along mean square s its p (1 - p) s + strength, p its prior."""
    curvature_PC = (prior_FC * (1 - prior_FC)).repeat_interleave(len(strength_P) // len(prior_FC), 0).clamp(min=1e-6)
    weight_PCD = curvature_PC[..., None] * spread_D + strength_P[:, None, None]
    return torch.cat([1 / weight_PCD, 1 / curvature_PC[..., None]], dim=2).float()


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
    def of(problem: _Problem, moved_ACD: Tensor, change_ACD: Tensor) -> "_Pair":
        moved_AK, change_AK = moved_ACD.flatten(1), change_ACD.flatten(1)
        product_A = _dot(moved_AK, change_AK)
        square_A = _dot(change_AK, problem.soften(change_ACD).flatten(1)).clamp(min=1e-38)
        inverse_A = torch.where(product_A > 0, 1 / product_A, 0.0)
        return _Pair(moved_AK, change_AK, inverse_A, torch.where(product_A > 0, product_A / square_A, torch.nan))

    def only(self, kept_A: Tensor) -> "_Pair":
        return _Pair(self.moved_AK[kept_A], self.change_AK[kept_A], self.inverse_A[kept_A], self.scale_A[kept_A])


def _dot(first_AK: Tensor, second_AK: Tensor) -> Tensor:
    """The product of each problem's two vectors, (A,). One pass over memory each; a batched product is far slower."""
    return torch.stack([torch.dot(first_K, second_K) for first_K, second_K in zip(first_AK, second_AK, strict=True)])


def _minimise(
    problem: _Problem, start_PCD: Tensor, wanted_P: Tensor, limit: int, bar: Track
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
        slope_A = _dot(direction_ACD.flatten(1), gradient_ACD.flatten(1)).double()
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
        bar.total = _steps_expected(step, first, times, limit)
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


def _steps_expected(step: int, first: float, times: float, limit: int) -> int:
    """How many steps take the gradient from `first` times the one that ends the search to 1, where `step` of them took it to
    `times`, each by the same factor; `limit` where it has not fallen."""
    if not 1 < times < first:
        return step if times <= 1 else limit
    return min(limit, math.ceil(step * math.log(first) / math.log(first / times)))


def _inverse_curvature(problem: _Problem, gradient_ACD: Tensor, memory: list[_Pair]) -> Tensor:
    """L-BFGS's two-loop recursion for each problem: the inverse Hessian, as remembered, times the gradient."""
    direction_AK = gradient_ACD.flatten(1).clone()
    scale_A = torch.ones(len(direction_AK))
    shares: list[Tensor] = []
    for pair in reversed(memory):
        shares.append(pair.inverse_A * _dot(pair.moved_AK, direction_AK))
        direction_AK.addcmul_(shares[-1][:, None], pair.change_AK, value=-1)
    for pair in memory:
        scale_A = torch.where(pair.scale_A.isnan(), scale_A, pair.scale_A)
    direction_AK = problem.soften(direction_AK.view_as(gradient_ACD)).flatten(1) * scale_A[:, None]
    for pair, share_A in zip(memory, reversed(shares), strict=True):
        back_A = pair.inverse_A * _dot(pair.change_AK, direction_AK)
        direction_AK.addcmul_((share_A - back_A)[:, None], pair.moved_AK)
    return direction_AK.view_as(gradient_ACD)
