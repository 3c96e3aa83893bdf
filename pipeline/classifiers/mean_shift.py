"""How far the augmentation `transfer` moves the rows of each class: by the settings, or by what held-out rows say."""

import torch
from torch import Tensor

from pipeline.classifiers.computed import TRIED, clean
from pipeline.classifiers.discriminant import Transfer, held_out_scores, mean_shifts
from pipeline.classifiers.held_out import MANY_CLASSES, compared_rows
from pipeline.classifiers.selection import choose
from pipeline.features import Features
from pipeline.progress import note
from pipeline.settings.stage3 import Retrain

LENDING = TRIED["transfer"]
"""Values of k among which held-out rows choose. Plankton, with up to 1,385 rows a class, wants about 14."""


def mean_shift(settings: Retrain, train: Features, unseen: bool, val: Features | None = None, seed: int = 0) -> Tensor:
    """m'_c - m_c of each class, (C, D) float32, in the coordinates of `train`.

    `settings.borrow` says how far means move, or leaves it to the data: to the rows of `val` where there are some; else, where
    the backbone is `unseen` (it never saw the training rows), to cross-validation over them. Rows that the backbone was
    trained on do not tell how far means err, so there the logarithmic law of `discriminant.shares` holds.
    """
    features_ND, labels_N, classes = clean(train), train.labels_N, len(train.counts_C)
    if settings.borrow == "auto":
        strength = _chosen(features_ND, labels_N, classes, settings, unseen, val, seed)
    else:
        strength = None if settings.borrow == "log" else settings.borrow
    return mean_shifts(features_ND, labels_N, classes, Transfer(settings.number("shrinkage"), strength))


def _chosen(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    settings: Retrain,
    unseen: bool,
    val: Features | None,
    seed: int,
) -> float | None:
    if val is None and not unseen:
        _say(".55 - .085 ln n, since the backbone was trained on these rows")
        return None
    strengths: tuple[float | None, ...] = LENDING if val is None else (None, *LENDING)
    rows_of_val = None if val is None else (clean(val), val.labels_N)
    rows = compared_rows(features_ND, labels_N, classes, len(strengths), "balanced", seed, rows_of_val)
    if classes > MANY_CLASSES or not rows.folds:
        k = settings.number("transfer")
        _say(f"k / (n + k) with k = {k:g}, which no held-out rows chose")
        return k
    shrinkage = settings.number("shrinkage")
    strength = likeliest_strength(rows.features_MD, rows.labels_M, classes, rows.fold_M, shrinkage, strengths)
    law = ".55 - .085 ln n" if strength is None else f"k / (n + k) with k = {strength:g}"
    _say(f"{law}, chosen on {rows.on}")
    return strength


def _say(law: str) -> None:
    """A note for those who ask for detail: in a table the arm is one row of many."""
    note(f"augmentation transfer: class means move by {law}", level=2)


def likeliest_strength(
    features_MD: Tensor,
    labels_M: Tensor,
    classes: int,
    fold_M: Tensor,
    shrinkage: float,
    strengths: tuple[float | None, ...] = LENDING,
) -> float | None:
    """The strength under which linear discriminants give held-out rows the greatest class-balanced log-likelihood.

    `fold_M` says which fold holds a row out, -1 for none. None among `strengths` stands for the logarithmic law. A temperature
    is fitted to each (`selection.log_likelihoods`).
    """
    held_out_M = fold_M >= 0
    tried = held_out_scores(features_MD, labels_M, classes, fold_M, (shrinkage,), strengths, (Transfer().temperature,))
    best, greatest = strengths[0], -torch.inf
    for setting, scores_MC in tried:
        choice = choose({"": scores_MC[held_out_M]}, labels_M[held_out_M], classes)
        if choice.scores[""].likelihood > greatest:
            best, greatest = setting.strength, choice.scores[""].likelihood
    return best
