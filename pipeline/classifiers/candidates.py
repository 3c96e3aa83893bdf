"""The linear classifiers that `auto` compares, called arms: their scores on held-out rows, and their fit on all rows. Pure.

Arms in the same coordinates and with the same transferred means are fitted together: penalties side by side in one program, and
a logit adjustment is only another bias.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from pipeline.classifiers.discriminant import Transfer, fit_discriminant, held_out_scores, transferred_means
from pipeline.classifiers.logistic import LogisticFit, fit_logistic
from pipeline.classifiers.post_hoc import logit_adjustment
from pipeline.classifiers.whitening import SHRINKAGE, class_means, fit_whitening

TEMPERATURE = 0.1
"""Temperature of the mixture that class means move towards (`discriminant.mixing`). From .05 to .2 the balanced accuracy
changes by less than .2 points."""

TAUS = {"balanced": (1.0, 1.25), "accuracy": (0.0, 0.25, 0.5, 1.0)}
"""Strengths of the logit adjustment that are compared, by metric. Below 1 the training prior still counts, which suits those who
will meet it again."""

ROUGH = 1e-2
"""The tolerance of `fit_logistic` for an arm that is only compared, and not kept. On a fifth of Flowers the likelihood is within
.007 nats of that at a tenth of it, after 42 evaluations in place of 94."""


@dataclass(frozen=True)
class Logistic:
    """Logistic regression on rows sampled as they are, with logit adjustment of strength `tau` afterwards.

    `strength` is that of the L2 penalty. The columns are whitened with `shrinkage`; None: only standardised. Before the fit each
    class's rows move as its mean does under `transfer`, the k of `discriminant.shares`; 0: they stay.
    """

    strength: float = 0.03
    tau: float = 1.0
    transfer: float | None = 0.0
    shrinkage: float | None = SHRINKAGE


Arm = Logistic | Transfer

PLAIN = Logistic(shrinkage=None)
"""The plain choice that others are compared with: logistic regression on standardised columns, logit-adjusted."""


def name(arm: Arm) -> str:
    """The arm's name in tables and in `Choice`."""
    if isinstance(arm, Transfer):
        text = (
            f"lda r={arm.shrinkage:g}" if arm.strength == 0 else f"transfer r={arm.shrinkage:g} k={_law(arm.strength)}"
        )
        return text + (" corrected" if arm.corrected else "")
    text = f"logistic l2={arm.strength:g} tau={arm.tau:g}" + (" columns" if arm.shrinkage is None else "")
    return text if arm.transfer == 0 else f"{text} transfer k={_law(arm.transfer)}"


def _law(strength: float | None) -> str:
    return "log" if strength is None else f"{strength:g}"


def fit(arm: Arm, features_ND: Tensor, labels_N: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) on raw features, float32."""
    return fit_all([arm], features_ND, labels_N, classes)[arm]


def fit_all(
    arms: Sequence[Arm], features_ND: Tensor, labels_N: Tensor, classes: int
) -> dict[Arm, tuple[Tensor, Tensor]]:
    """`fit` of several arms; what they have in common is computed once."""
    fits: dict[Arm, tuple[Tensor, Tensor]] = {
        arm: fit_discriminant(features_ND, labels_N, classes, arm) for arm in arms if isinstance(arm, Transfer)
    }
    return fits | _fit_logistic([arm for arm in arms if isinstance(arm, Logistic)], features_ND, labels_N, classes)


def held_out(
    arms: Sequence[Arm], features_ND: Tensor, labels_N: Tensor, classes: int, fold_N: Tensor
) -> dict[Arm, Tensor]:
    """Each arm's scores (H, C) of the H held-out rows, in order. A row is scored by a fit that did not have its fold.

    `fold_N` is the fold of each row. Rows of fold -1 are in every fit and are not scored: all training rows, where a `val` split
    is the only fold.
    """
    scores: dict[Arm, Tensor] = {}
    wanted = [arm for arm in arms if isinstance(arm, Transfer)]
    if wanted:
        grid = [list(dict.fromkeys(values)) for values in zip(*(astuple(arm) for arm in wanted), strict=True)]
        tried = held_out_scores(features_ND, labels_N, classes, fold_N, *grid)
        scores = {setting: scores_NC[fold_N >= 0] for setting, scores_NC in tried if setting in wanted}
    logistics = [arm for arm in arms if isinstance(arm, Logistic)]
    fold_H = fold_N[fold_N >= 0]
    for member in logistics:
        scores[member] = torch.full((len(fold_H), classes), torch.nan)
    for fold in range(int(fold_N.max()) + 1) if logistics else []:
        out_N = fold_N == fold
        fits = _fit_logistic(logistics, features_ND[~out_N], labels_N[~out_N], classes, tolerance=ROUGH)
        for fitted, (weight_CD, bias_C) in fits.items():
            # float64: a raw bias undoes the columns' offsets, which may be large.
            scores[fitted][fold_H == fold] = (
                features_ND[out_N].double() @ weight_CD.double().T + bias_C.double()
            ).float()
    return scores


def _fit_logistic(
    arms: Sequence[Logistic], features_ND: Tensor, labels_N: Tensor, classes: int, tolerance: float = 1e-3
) -> dict[Arm, tuple[Tensor, Tensor]]:
    fits: dict[Arm, tuple[Tensor, Tensor]] = {}
    groups: dict[float | None, dict[float | None, list[Logistic]]] = defaultdict(lambda: defaultdict(list))
    for arm in arms:
        groups[arm.shrinkage][arm.transfer].append(arm)
    for shrinkage, transfers in groups.items():
        coordinates = fit_whitening(features_ND, labels_N, classes, shrinkage)
        inputs_ND = coordinates.apply(features_ND)
        mean_CD, count_C = class_means(inputs_ND, labels_N, classes)
        solved: dict[float, LogisticFit] = {}
        for transfer, group in transfers.items():
            shift_CD = (transferred_means(mean_CD, count_C, transfer, TEMPERATURE) - mean_CD).float()
            strengths = sorted({arm.strength for arm in group})
            moved_ND, near = inputs_ND + shift_CD[labels_N], _nearest(solved, strengths)
            solutions = fit_logistic(moved_ND, labels_N, classes, strengths, tolerance=tolerance, near=near)
            solved |= {strength: solutions.only(position) for position, strength in enumerate(strengths)}
            for member in group:
                position = strengths.index(member.strength)
                bias_C = logit_adjustment(solutions.bias_FSC[0, position], count_C, member.tau)
                fits[member] = coordinates.fold(solutions.weight_FSCD[0, position], bias_C)
    return fits


def _nearest(solved: dict[float, LogisticFit], strengths: Sequence[float]) -> LogisticFit | None:
    """Of fits to nearly the same rows, by their strength, those whose strengths are nearest to these; None without any."""
    if not solved:
        return None
    near = [solved[min(solved, key=lambda other: abs(math.log(other / wanted)))] for wanted in strengths]
    weight_FSCD, bias_FSC = (
        torch.cat([getattr(fit, name) for fit in near], dim=1) for name in ("weight_FSCD", "bias_FSC")
    )
    return replace(near[0], weight_FSCD=weight_FSCD, bias_FSC=bias_FSC)
