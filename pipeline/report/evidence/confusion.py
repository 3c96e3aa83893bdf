"""Which class takes the test images of which other class. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Test rows of class `true` that a classifier takes for class `taken`: how many, and their share of the class in percent."""

    true: int
    taken: int
    rows: int
    share: float


def worst_pairs(labels_N: Labels, predicted_N: Labels, limit: int, larger_than: list[int] | None = None) -> list[Pair]:
    """The `limit` pairs of different classes with the largest share of the true class's rows, worst first.

    `larger_than`: training rows of each class (C). With it only pairs are counted whose taken class has more of them than the
    true one, so that they say which head class swallows which tail class. Ties: more rows, then the lower class numbers.
    """
    classes = 1 + int(max(labels_N.max(initial=0), predicted_N.max(initial=0)))
    wrong_N = labels_N != predicted_N
    codes, rows = np.unique(labels_N[wrong_N] * classes + predicted_N[wrong_N], return_counts=True)
    size_C = np.bincount(labels_N, minlength=classes)
    pairs = [
        Pair(int(code // classes), int(code % classes), int(n), 100 * float(n / size_C[code // classes]))
        for code, n in zip(codes, rows, strict=True)
    ]
    if larger_than is not None:
        pairs = [pair for pair in pairs if larger_than[pair.taken] > larger_than[pair.true]]
    return sorted(pairs, key=lambda pair: (-pair.share, -pair.rows, pair.true, pair.taken))[:limit]


def share_of(labels_N: Labels, predicted_N: Labels, true: int, taken: int) -> float:
    """Percent of the rows of class `true` that are taken for class `taken`; 0 where the class has no rows."""
    of_class_N = labels_N == true
    return 100 * float((predicted_N[of_class_N] == taken).mean()) if of_class_N.any() else 0.0
