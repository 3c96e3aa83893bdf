"""The committee behind the head `auto`: the arms that are likeliest on held-out rows, averaged into one linear classifier. Pure.

With few rows a class, the arm that is likeliest on held-out rows is often not the best on new rows. The average of the likeliest
ones is steadier; each is divided by its own temperature first, so that all are in one unit. Half of the weight goes to two arms
that won on other data. They stand in for what held-out rows cannot tell: a class with a single row has none to hold out.
Where held-out rows say beyond two standard errors that the likeliest arm alone is better than the average, it is taken alone.
tests/benchmarks/bench_choice.py measures all this.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers import held_out
from pipeline.classifiers.candidates import PLAIN, TAUS, Arm, Logistic, fit, fit_all, name
from pipeline.classifiers.discriminant import Transfer
from pipeline.classifiers.selection import Choice, Score, choose

MEMBERS = 10
"""How many of the likeliest arms are averaged. With 5 to 15 the balanced accuracy differs by at most .05 points."""

USUAL: tuple[Arm, ...] = (Logistic(transfer=2.0), Transfer(strength=2.0))
"""The two arms that won on the rows left over from 15 long-tailed draws of two sets of CLIP features."""

REACH = 0.15
"""A usual arm is left out where its mean log-likelihood is further below the likeliest arm's than this, in nats. On those 15
draws none was more than .08 below."""


def arms(metric: str = "balanced") -> list[Arm]:
    """The arms that are compared, for a metric of `candidates.TAUS`."""
    grid: list[Arm] = [PLAIN, Logistic(0.01, shrinkage=None)]
    grid += [Logistic(l2, tau) for l2 in (0.001, 0.003) for tau in TAUS[metric]]
    grid += [Logistic(l2, tau, k) for k in (0.0, 1.0, 2.0) for l2 in (0.01, 0.03, 0.1) for tau in TAUS[metric]]
    strengths = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
    grid += [Transfer(r, k, corrected=correct) for r in (0.3, 0.6, 0.8) for k in strengths for correct in (False, True)]
    return grid


@dataclass(frozen=True)
class Committee:
    """One classifier on raw features, weight (C, D) and bias (C,) float32, with each member's share of it and how it was chosen.

    `score` is the committee's own on the held-out rows, `choice` has that of every arm; both are None where no row could be held
    out. `on` says what the held-out rows were.
    """

    weight_CD: Tensor
    bias_C: Tensor
    members: dict[Arm, float]
    score: Score | None
    choice: Choice | None
    on: str


def elect(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    metric: str = "balanced",
    seed: int = 0,
    val: tuple[Tensor, Tensor] | None = None,
) -> Committee:
    """The committee of the arms that are likeliest in cross-validation, or on `val` (features, labels) where that is given.

    Without `val` this is only for features of a backbone that was not trained on these rows. One that was is right on nearly all
    of them, so they do not tell good arms from bad ones.
    """
    grid = arms(metric)
    if features_ND.numel() * classes > 4 * held_out.WORK:
        grid = [arm for arm in grid if isinstance(arm, Transfer)]
    if classes > held_out.MANY_CLASSES:
        grid = [arm for arm in grid if isinstance(arm, Logistic)]
    rows = held_out.compared_rows(features_ND, labels_N, classes, len(grid), metric, seed, val)
    if not grid or not rows.folds:
        alone = USUAL[0] if grid else USUAL[1]
        weight_CD, bias_C = fit(alone, features_ND, labels_N, classes)
        on = rows.on if grid else held_out.TOO_MANY
        return Committee(weight_CD, bias_C, {alone: 1.0}, None, None, on)
    scores = rows.scores(grid, classes)
    choice = choose({name(arm): scores_HC for arm, scores_HC in scores.items()}, rows.labels_H, classes, metric)
    members = _members(grid, choice, USUAL if metric == "balanced" else ())
    factors = {arm: share / choice.scores[name(arm)].temperature for arm, share in members.items()}
    blended_HC = torch.stack([factor * scores[arm] for arm, factor in factors.items()]).sum(dim=0)
    likeliest = next(arm for arm in grid if name(arm) == choice.arm)
    duel = choose({"committee": blended_HC, "alone": scores[likeliest]}, rows.labels_H, classes, metric)
    score = duel.scores[duel.arm if duel.certain else "committee"]
    if duel.arm == "alone" and duel.certain:
        members = {likeliest: 1.0}
        factors = {likeliest: 1 / score.temperature}
    fits = fit_all(list(factors), features_ND, labels_N, classes)
    weight_CD = torch.stack([factor * fits[arm][0] for arm, factor in factors.items()]).sum(dim=0)
    bias_C = torch.stack([factor * fits[arm][1] for arm, factor in factors.items()]).sum(dim=0)
    return Committee(weight_CD, bias_C, members, score, choice, rows.on)


def _members(grid: Sequence[Arm], choice: Choice, usual: Sequence[Arm]) -> dict[Arm, float]:
    """Each member's share, 1 in all: half for the usual arms within REACH, where there are any, the rest for the likeliest."""
    likelihood = {arm: choice.scores[name(arm)].likelihood for arm in grid}
    ranked = sorted(grid, key=lambda arm: -likelihood[arm])
    near = [arm for arm in usual if arm in likelihood and likelihood[arm] > likelihood[ranked[0]] - REACH]
    shares = dict.fromkeys(near, 0.5 / len(near)) if near else {}
    likeliest = ranked[:MEMBERS]
    for arm in likeliest:
        shares[arm] = shares.get(arm, 0.0) + (0.5 if near else 1.0) / len(likeliest)
    return shares
