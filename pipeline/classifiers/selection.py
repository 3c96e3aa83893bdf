"""Choosing between arms without the test split: folds, the score of out-of-fold predictions, and how sure a choice is. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.rng import generator, sampled

METRICS = ("balanced", "accuracy")
"""What "best" means: every class counts alike, or, for those who will meet the training prior, every row does."""

FLOOR = -30.0
"""The least log-likelihood of a row. A class that a fit had no rows of has probability 0, which would cost infinity."""


def stratified_folds(labels_N: Tensor, classes: int, folds: int, seed: int = 0) -> Tensor:
    """The fold that holds each row out, (N,) int64. The only row of a class is held out by none: -1.

    The shuffled rows are dealt to the folds in turn, class after class. So the folds' numbers of rows differ by at most one, in
    each class and in all.
    """
    order_N = sampled(torch.randperm, len(labels_N), generator=generator(seed, "folds"))
    order_N = order_N[labels_N[order_N].argsort(stable=True)]
    lone_N = torch.bincount(labels_N, minlength=classes)[labels_N] == 1
    dealt_K = order_N[~lone_N[order_N]]
    fold_N = torch.full((len(labels_N),), -1)
    fold_N[dealt_K] = torch.arange(len(dealt_K)) % folds
    return fold_N


def row_weights(labels_N: Tensor, classes: int, metric: str = "balanced") -> Tensor:
    """What each row counts in the metric, (N,) float64, summing to 1: the same for each class, or for each row."""
    if metric not in METRICS:
        raise ValueError(f"row_weights: unknown metric {metric!r}; wanted {' or '.join(METRICS)}")
    count_C = torch.bincount(labels_N, minlength=classes).double()
    weight_N = 1 / count_C[labels_N] if metric == "balanced" else torch.ones(len(labels_N), dtype=torch.float64)
    return weight_N / weight_N.sum()


def log_likelihoods(scores_NC: Tensor, labels_N: Tensor, weight_N: Tensor) -> tuple[Tensor, float]:
    """Each row's log-likelihood (N,) under softmax(scores / T) with the T that makes their weighted mean greatest; and a T.

    The T that is given back is fitted to labels of which one in N + 2 is spread over all classes, after Platt (1999): where every
    row is right, the labels alone would ask for T = 0, and N rows do not say that no row is ever wrong. No unit of the scores
    matters: distances, votes and logits can be compared.
    """
    finite_NC = torch.isfinite(scores_NC)
    top_N1 = scores_NC.masked_fill(~finite_NC, -torch.inf).amax(dim=1, keepdim=True)
    margin_NC = (scores_NC - top_N1).float().masked_fill(~finite_NC, -torch.inf)
    true_N = margin_NC.gather(1, labels_N[:, None])[:, 0]
    known_N = torch.isfinite(true_N)
    weight_N = torch.where(known_N, weight_N, 0.0)
    mean_N = margin_NC.masked_fill(~finite_NC, 0.0).double().sum(dim=1) / finite_NC.sum(dim=1)
    spread = -float(mean_N.mean())
    if spread <= 0:
        return (-finite_NC.sum(dim=1).double().log()).masked_fill(~known_N, FLOOR), 1.0
    factor = _factor(margin_NC, true_N.double(), weight_N, spread, 1 / spread)
    likelihood_N = factor * true_N.double() - torch.logsumexp(factor * margin_NC, dim=1).double()
    target_N = true_N + (mean_N - true_N) / (int(known_N.sum()) + 2)
    careful = _factor(margin_NC, target_N, weight_N, spread, factor)
    return likelihood_N.clamp(min=FLOOR), 1 / careful


def _factor(margin_NC: Tensor, target_N: Tensor, weight_N: Tensor, spread: float, start: float) -> float:
    """The b of the greatest weighted mean of b z_target - log sum exp(b z), which is concave in b, by Newton's method."""
    low, high = math.log(1e-3 / spread), math.log(1e5 / spread)
    at = math.log(start)
    for _ in range(30):
        slope, curvature = _derivatives(margin_NC, target_N, weight_N, math.exp(at))
        # In log b: the slope is b f', the curvature b^2 f'' + b f'.
        low, high = (at, high) if slope > 0 else (low, at)
        step = -slope / curvature if curvature < 0 else math.copysign(math.inf, slope)
        following = at + max(-2.0, min(2.0, step))
        following = following if low < following < high else (low + high) / 2
        if abs(following - at) < 1e-3:
            break
        at = following
    return math.exp(at)


def _derivatives(margin_NC: Tensor, target_N: Tensor, weight_N: Tensor, factor: float) -> tuple[float, float]:
    """First and second derivative, in log b, of the weighted mean of b z_target - log sum exp(b z); `factor` is b."""
    probability_NC = (factor * margin_NC).softmax(dim=1)
    finite_NC = margin_NC.masked_fill(~torch.isfinite(margin_NC), 0.0)
    mean_N = (probability_NC * finite_NC).sum(dim=1).double()
    square_N = (probability_NC * finite_NC.square()).sum(dim=1).double()
    first = float((weight_N * (target_N.nan_to_num(neginf=0.0) - mean_N)).sum())
    second = float(-(weight_N * (square_N - mean_N.square())).sum())
    return factor * first, factor * factor * second + factor * first


@dataclass(frozen=True)
class Score:
    """An arm on held-out rows: mean log-likelihood and accuracy in percent, both in the metric, and the fitted temperature."""

    likelihood: float
    accuracy: float
    temperature: float


@dataclass(frozen=True)
class Choice:
    """The chosen arm, each arm's score, and how sure the choice is: its lead in likelihood, with the lead's standard error."""

    arm: str
    scores: dict[str, Score]
    runner_up: str | None
    lead: float
    standard_error: float

    @property
    def certain(self) -> bool:
        """Whether the lead is more than two of its standard errors."""
        return self.lead > 2 * self.standard_error


def choose(
    arms: Mapping[str, Tensor],
    labels_N: Tensor,
    classes: int,
    metric: str = "balanced",
    prior: Mapping[str, float] | None = None,
) -> Choice:
    """The arm of the greatest mean log-likelihood with a fitted temperature, from scores (N, C) of rows no fit has seen.

    A row without a score (NaN) in any arm is left out for all. A class of which no row was held out is left out of the softmax:
    its probability could only count against an arm. `prior` is added to an arm's mean log-likelihood, in nats; it stands for what
    other data say of the arms. Raises ValueError without arms or without a held-out row.
    """
    if not arms:
        raise ValueError("choose: no arms")
    held_out_N = ~torch.stack([torch.isnan(scores_NC).any(dim=1) for scores_NC in arms.values()]).any(dim=0)
    if not bool(held_out_N.any()):
        raise ValueError("choose: no row was held out: every class has a single row")
    labels_N = labels_N[held_out_N]
    weight_N = row_weights(labels_N, classes, metric)
    absent_C = torch.bincount(labels_N, minlength=classes) == 0
    scores, likelihoods, worth = {}, {}, {}
    for name, scores_NC in arms.items():
        rows_HC = scores_NC[held_out_N].masked_fill(absent_C, -torch.inf)
        likelihood_N, temperature = log_likelihoods(rows_HC, labels_N, weight_N)
        right_N = (rows_HC.argmax(dim=1) == labels_N).double()
        mean = float((weight_N * likelihood_N).sum())
        scores[name] = Score(mean, 100 * float((weight_N * right_N).sum()), temperature)
        likelihoods[name], worth[name] = likelihood_N, mean + (prior or {}).get(name, 0.0)
    first, *others = sorted(arms, key=lambda name: -worth[name])
    if not others:
        return Choice(first, scores, None, 0.0, 0.0)
    difference_N = likelihoods[first] - likelihoods[others[0]]
    lead = float((weight_N * difference_N).sum())
    error = float((weight_N * (difference_N - lead)).square().sum().sqrt())
    return Choice(first, scores, others[0], lead, error)
