"""Figures of a classifier: accuracy over rows, by group and by class, balanced accuracy, calibration error. Pure."""

import math
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from pipeline.artefacts.figures import Percent
from pipeline.longtail import group_limits, shot_groups


class Metrics(BaseModel):
    """Figures of one classifier on one split, in percent; a group without classes is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: Percent
    many: Percent | None
    medium: Percent | None
    few: Percent | None
    balanced_accuracy: Percent
    ece: Percent
    per_class: list[Percent | None]


def expected_calibration_error(probabilities_NC: Tensor, labels_N: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the top-1 confidence, percent: (N, C), (N,) -> float.

    `bins` equal-width, right-closed bins on (0, 1]; mean |accuracy - confidence| weighted by the bins' share of rows
    (Guo et al., On Calibration of Modern Neural Networks, Eq. 3).
    """
    if len(labels_N) == 0:
        raise ValueError("expected_calibration_error: no rows")
    largest_N, predicted_N = probabilities_NC.max(dim=1)
    confidence_N, correct_N = largest_N.double(), (predicted_N == labels_N).double()
    bin_N = (torch.ceil(confidence_N * bins).long() - 1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence_N.device)
    gap.index_add_(0, bin_N, correct_N - confidence_N)
    return float(100 * gap.abs().sum() / len(labels_N))


def evaluate(
    probabilities_NC: Tensor, labels_N: Tensor, train_counts: list[int], many_above: int = 100, few_below: int = 20
) -> Metrics:
    """Metrics of (N, C) probabilities against (N,) labels; groups by the classes' training counts (C).

    Accuracy is over rows; groups and balanced accuracy are means over classes, as in the field's `shot_acc` (Liu et al., 2019).
    A class without rows in the split is None in `per_class` and left out of these means.
    """
    classes = probabilities_NC.shape[1]
    correct_N = (probabilities_NC.argmax(dim=1) == labels_N).double()
    rows_C = torch.bincount(labels_N, minlength=classes).double()
    hits_C = torch.zeros(classes, dtype=torch.float64, device=labels_N.device).index_add_(0, labels_N, correct_N)
    groups = shot_groups(train_counts, *group_limits(train_counts, many_above, few_below))
    per_class = [None if n == 0 else 100 * h / n for h, n in zip(hits_C.tolist(), rows_C.tolist(), strict=True)]
    present = [value for value in per_class if value is not None]
    return Metrics(
        accuracy=100 * float(correct_N.mean()),
        many=_mean(per_class, groups["many"]),
        medium=_mean(per_class, groups["medium"]),
        few=_mean(per_class, groups["few"]),
        balanced_accuracy=sum(present) / len(present),
        ece=expected_calibration_error(probabilities_NC, labels_N),
        per_class=per_class,
    )


def pooled(folds: Sequence[Metrics], tested_FC: Sequence[Sequence[int]], groups: dict[str, list[int]]) -> Metrics:
    """Metrics over the test rows of F folds, in which each row is tested once; `tested_FC` are a fold's test rows of a class.

    `groups` are the classes that are many, medium and few. The calibration error is the mean of the folds', weighted by their
    rows: each has a classifier of its own.
    """
    total_C = [sum(rows_F) for rows_F in zip(*tested_FC, strict=True)]
    right_C = [
        sum(n * (share or 0.0) for n, share in zip(rows_F, shares_F, strict=True))
        for rows_F, shares_F in zip(
            zip(*tested_FC, strict=True), zip(*(fold.per_class for fold in folds), strict=True), strict=True
        )
    ]
    per_class = [None if n == 0 else right / n for right, n in zip(right_C, total_C, strict=True)]
    present = [value for value in per_class if value is not None]
    weights_F = [sum(rows_C) / sum(total_C) for rows_C in tested_FC]
    return Metrics(
        accuracy=sum(right_C) / sum(total_C),
        many=_mean(per_class, groups["many"]),
        medium=_mean(per_class, groups["medium"]),
        few=_mean(per_class, groups["few"]),
        balanced_accuracy=sum(present) / len(present),
        ece=sum(weight * fold.ece for weight, fold in zip(weights_F, folds, strict=True)),
        per_class=per_class,
    )


def worst_tenth(per_class: Sequence[float | None]) -> float:
    """Mean accuracy of the worst tenth of the classes, one at least, in the unit of `per_class`; None is left out."""
    present = sorted(value for value in per_class if value is not None)
    if not present:
        raise ValueError("worst_tenth: no class has rows")
    worst = present[: max(1, math.ceil(len(present) / 10))]
    return sum(worst) / len(worst)


def _mean(per_class: list[float | None], group: list[int]) -> float | None:
    """Over the classes of a group that have rows in the split; None where none has."""
    present = [value for c in group if (value := per_class[c]) is not None]
    return sum(present) / len(present) if present else None
