"""L2 logistic regression, many strengths and folds side by side in one batched program. Deterministic.

The plain arm that is hardest to beat on features of a foundation model: natural sampling, then logit adjustment
(`post_hoc.logit_adjustment`). Features are expected in `coordinates`, where a strength means the same for every unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers.eigen import eigen
from pipeline.classifiers.lbfgs import minimise
from pipeline.classifiers.logistic_loss import LogisticLoss
from pipeline.progress import track


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
    problem = LogisticLoss(
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
        found_PCD, converged_P, steps = minimise(problem, start_FSCD.flatten(0, 1), wanted_P, limit, bar)
    found_FSCD = found_PCD.view(*shape, classes, -1)
    bias_FSC = found_FSCD[..., -1].masked_fill(prior_FC[:, None] == 0, -torch.inf)
    return LogisticFit(found_FSCD[..., :-1] @ turn_DD.T, bias_FSC, converged_P.view(shape), steps, turn_DD)


def _principal_axes(features_ND: Tensor) -> Tensor:
    """The principal axes (D, D). The penalty does not change under a rotation."""
    square_DD = (features_ND.float().T @ features_ND.float()).double() / len(features_ND)
    return eigen(square_DD)[1].float()


def _softness(prior_FC: Tensor, strength_P: Tensor, spread_D: Tensor) -> Tensor:
    """One over a class's expected curvature (P, C, D + 1): along mean square s its p (1 - p) s + strength, p its prior."""
    curvature_PC = (prior_FC * (1 - prior_FC)).repeat_interleave(len(strength_P) // len(prior_FC), 0).clamp(min=1e-6)
    weight_PCD = curvature_PC[..., None] * spread_D + strength_P[:, None, None]
    return torch.cat([1 / weight_PCD, 1 / curvature_PC[..., None]], dim=2).float()
