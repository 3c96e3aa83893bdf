"""`auto` of arms that cost next to nothing: the likeliest on rows held out, averaged into one linear classifier. Pure.

With few rows a class the likeliest arm is often not the best; the average of the likeliest, each in units of its own temperature,
is steadier. Half of it are the arms that won on other data, which speak for classes of one row: of those no row can be held out.
Measured in tests/benchmarks/bench_choice.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers.candidates import PLAIN, Arm, Logistic, fit, fit_all, held_out, name
from pipeline.classifiers.discriminant import Transfer
from pipeline.classifiers.selection import Choice, Score, choose, stratified_folds

MEMBERS = 10
"""Likeliest arms that are averaged; 5 to 15 differ by .05."""

USUAL: tuple[Arm, ...] = (Logistic(transfer=2.0), Transfer(strength=2.0))
"""What won on rows left out of 15 long-tailed draws of two CLIP sets."""

REACH = 0.15
"""Nats below the likeliest arm within which a usual arm still speaks; on those draws none was more than .08 below."""

WORK = 5_000_000_000
"""Rows x width x classes that all folds together may come to.

Above it fewer folds are held out; above four times it no arm is logistic."""

HELD_VALUES = 500_000_000
"""Scores of rows held out that all arms together may come to, 2 GB; above, fewer rows are held out."""

MANY_CLASSES = 2000
"""Above, no arm is of the closed-form grid: each of its settings mixes every class with every other."""

FOLDS = 5


def arms(metric: str = "balanced") -> list[Arm]:
    """The grid. Adjustments below 1 are for those who will meet the training prior."""
    taus = (1.0, 1.25) if metric == "balanced" else (0.0, 0.25, 0.5, 1.0)
    grid: list[Arm] = [PLAIN, Logistic(0.01, shrinkage=None)]
    grid += [Logistic(l2, tau, k) for k in (0.0, 1.0, 2.0) for l2 in (0.01, 0.03, 0.1) for tau in taus]
    strengths = (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0)
    grid += [Transfer(r, k, corrected=correct) for r in (0.3, 0.6, 0.8) for k in strengths for correct in (False, True)]
    return grid


@dataclass(frozen=True)
class Committee:
    """One classifier on raw features, weight (C, D) and bias (C,) float32; the share each member has in it; how it was chosen.

    `score` is the committee's own on the rows held out, `choice` that of every arm by name; None where no row could be held out.
    """

    weight_CD: Tensor
    bias_C: Tensor
    members: dict[Arm, float]
    score: Score | None
    choice: Choice | None
    folds: int


def elect(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    metric: str = "balanced",
    seed: int = 0,
    val: tuple[Tensor, Tensor] | None = None,
) -> Committee:
    """The committee of the likeliest arms, by cross-validation over training rows, or on `val` (features, labels) where given.

    Only for features of a backbone that never saw these rows, unless `val` is given: of rows it was trained on it is sure.
    """
    every_MD, every_labels_M, fold_M = features_ND, labels_N, stratified_folds(labels_N, classes, FOLDS, seed)
    folds = max(1, min(FOLDS, WORK // max(1, features_ND.numel() * classes)))
    if val is not None:
        every_MD, every_labels_M = torch.cat([features_ND, val[0]]), torch.cat([labels_N, val[1]])
        fold_M, folds = torch.cat([torch.full_like(labels_N, -1), torch.zeros_like(val[1])]), 1
    fold_M = fold_M.masked_fill(fold_M >= folds, -1)
    grid = arms(metric)
    if features_ND.numel() * classes > 4 * WORK:
        grid = [arm for arm in grid if isinstance(arm, Transfer)]
    if classes > MANY_CLASSES:
        grid = [arm for arm in grid if isinstance(arm, Logistic)]
    if not grid or not bool((fold_M >= 0).any()):
        alone = USUAL[0] if grid else USUAL[1]
        weight_CD, bias_C = fit(alone, features_ND, labels_N, classes)
        return Committee(weight_CD, bias_C, {alone: 1.0}, None, None, 0)
    fold_M = _thinned(fold_M, every_labels_M, HELD_VALUES // (len(grid) * classes), metric)
    labels_H = every_labels_M[fold_M >= 0]
    scores = held_out(grid, every_MD, every_labels_M, classes, fold_M)
    choice = choose({name(arm): scores_HC for arm, scores_HC in scores.items()}, labels_H, classes, metric)
    members = _members(grid, choice, USUAL if metric == "balanced" else ())
    factors = {arm: share / choice.scores[name(arm)].temperature for arm, share in members.items()}
    blended_HC = torch.stack([factor * scores[arm] for arm, factor in factors.items()]).sum(dim=0)
    score = choose({"committee": blended_HC}, labels_H, classes, metric).scores["committee"]
    fits = fit_all(list(factors), features_ND, labels_N, classes)
    weight_CD = torch.stack([factor * fits[arm][0] for arm, factor in factors.items()]).sum(dim=0)
    bias_C = torch.stack([factor * fits[arm][1] for arm, factor in factors.items()]).sum(dim=0)
    return Committee(weight_CD, bias_C, members, score, choice, folds)


def _thinned(fold_M: Tensor, labels_M: Tensor, limit: int, metric: str) -> Tensor:
    """The folds with about `limit` rows held out at most: of each class as many, or, for accuracy, each so many-th row."""
    held_H = (fold_M >= 0).nonzero()[:, 0]
    if len(held_H) <= limit:
        return fold_M
    if metric == "accuracy":
        kept_K = held_H[:: -(-len(held_H) // max(1, limit))]
    else:
        held_H = held_H[labels_M[held_H].argsort(stable=True)]
        count_C = torch.bincount(labels_M[held_H])
        rank_H = torch.arange(len(held_H)) - (count_C.cumsum(0) - count_C)[labels_M[held_H]]
        kept_K = held_H[rank_H < max(1, limit // int((count_C > 0).sum()))]
    thinned_M = torch.full_like(fold_M, -1)
    thinned_M[kept_K] = fold_M[kept_K]
    return thinned_M


def _members(grid: Sequence[Arm], choice: Choice, usual: Sequence[Arm]) -> dict[Arm, float]:
    """Each member's share: half for the usual arms that are within reach, the rest for the likeliest; in all 1."""
    likelihood = {arm: choice.scores[name(arm)].likelihood for arm in grid}
    ranked = sorted(grid, key=lambda arm: -likelihood[arm])
    near = [arm for arm in usual if arm in likelihood and likelihood[arm] > likelihood[ranked[0]] - REACH]
    shares = dict.fromkeys(near, 0.5 / len(near)) if near else {}
    likeliest = ranked[:MEMBERS]
    for arm in likeliest:
        shares[arm] = shares.get(arm, 0.0) + (0.5 if near else 1.0) / len(likeliest)
    return shares
