"""Rows on which arms are compared: folds of the training rows, or a `val` split; and the arm that is likeliest on them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers import candidates
from pipeline.classifiers.candidates import Arm
from pipeline.classifiers.discriminant import Transfer
from pipeline.classifiers.selection import Choice, choose, stratified_folds

FOLDS = 5

WORK = 5_000_000_000
"""Rows x width x classes that the fits of all folds together may come to. Above it fewer folds are held out."""

HELD_VALUES = 500_000_000
"""Scores of held-out rows that are kept for all arms together, 2 GB. Above it fewer rows are held out."""


TOO_MANY = "nothing: more rows, columns and classes than a search is made over"

MANY_CLASSES = 2000
"""With more classes discriminants are not compared: each setting mixes every class mean with every other, C^2 numbers."""


@dataclass(frozen=True)
class HeldOut:
    """Features (M, D) and labels (M,) of the training rows and, where there is one, of the `val` split after them."""

    features_MD: Tensor
    labels_M: Tensor
    fold_M: Tensor
    """Which fold holds a row out; -1 for a row that every fit has."""
    folds: int
    on: str
    """What the held-out rows are, for people: `val`, `5-fold cross-validation`, or that there are none."""

    @property
    def labels_H(self) -> Tensor:
        """Labels of the H rows that are held out by some fold, in order."""
        return self.labels_M[self.fold_M >= 0]

    def scores(self, arms: Sequence[Arm], classes: int) -> dict[Arm, Tensor]:
        """Each arm's scores (H, C) of the held-out rows, from fits that did not have them."""
        return candidates.held_out(arms, self.features_MD, self.labels_M, classes, self.fold_M)


def compared_rows(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    arms: int,
    metric: str,
    seed: int,
    val: tuple[Tensor, Tensor] | None = None,
) -> HeldOut:
    """The rows on which a number of arms can be compared: those of `val` (features, labels), else folds of the training rows.

    Each class is dealt evenly to the folds; the row of a class that has only one is held out by none. With many rows, columns and
    classes fewer folds are held out (WORK), and fewer rows (HELD_VALUES). `folds` is 0 where no row can be held out.
    """
    if val is None:
        folds = max(1, min(FOLDS, WORK // max(1, features_ND.numel() * classes)))
        fold_M, every_MD, every_labels_M = stratified_folds(labels_N, classes, FOLDS, seed), features_ND, labels_N
        on = f"{folds}-fold cross-validation"
    else:
        folds, on = 1, "val"
        every_MD, every_labels_M = torch.cat([features_ND, val[0]]), torch.cat([labels_N, val[1]])
        fold_M = torch.cat([torch.full_like(labels_N, -1), torch.zeros_like(val[1])])
    fold_M = fold_M.masked_fill(fold_M >= folds, -1)
    if not bool((fold_M >= 0).any()):
        return HeldOut(every_MD, every_labels_M, fold_M, 0, "nothing: no class has two rows")
    fold_M = _thinned(fold_M, every_labels_M, HELD_VALUES // (max(1, arms) * classes), metric)
    return HeldOut(every_MD, every_labels_M, fold_M, folds, on)


def likeliest(
    arms: Sequence[Arm],
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    metric: str,
    seed: int,
    val: tuple[Tensor, Tensor] | None = None,
) -> tuple[Arm, Choice | None, str]:
    """The arm that is likeliest on held-out rows, each arm's score there, and what those rows are.

    The first of the arms, without scores, where no row can be held out, or where there are more rows, columns and classes than a
    search is made over (WORK, MANY_CLASSES).
    """
    mixes = any(isinstance(arm, Transfer) for arm in arms) and classes > MANY_CLASSES
    if mixes or features_ND.numel() * classes > 4 * WORK:
        return arms[0], None, TOO_MANY
    rows = compared_rows(features_ND, labels_N, classes, len(arms), metric, seed, val)
    if not rows.folds:
        return arms[0], None, rows.on
    scores = {candidates.name(arm): scores_HC for arm, scores_HC in rows.scores(arms, classes).items()}
    choice = choose(scores, rows.labels_H, classes, metric)
    return next(arm for arm in arms if candidates.name(arm) == choice.arm), choice, rows.on


def _thinned(fold_M: Tensor, labels_M: Tensor, limit: int, metric: str) -> Tensor:
    """The folds with at most about `limit` rows held out.

    For the metric `balanced` the same number is kept of each class; for `accuracy` every so many-th row.
    """
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
