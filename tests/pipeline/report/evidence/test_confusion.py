"""Pairs of classes that are mistaken."""

import numpy as np
from sklearn.metrics import confusion_matrix

from pipeline.report.evidence.confusion import Pair, share_of, worst_pairs


def test_pairs_are_the_largest_entries_beside_the_diagonal():
    draw = np.random.default_rng(0)
    labels, predicted = draw.integers(0, 6, 500), draw.integers(0, 6, 500)
    counts = confusion_matrix(labels, predicted)
    found = worst_pairs(labels, predicted, 100)
    assert {(pair.true, pair.taken): pair.rows for pair in found} == {
        (a, b): counts[a, b] for a in range(6) for b in range(6) if a != b and counts[a, b]
    }
    shares = [pair.share for pair in found]
    assert shares == sorted(shares, reverse=True)
    for pair in found:
        assert abs(pair.share - 100 * counts[pair.true, pair.taken] / counts[pair.true].sum()) < 1e-9
        assert share_of(labels, predicted, pair.true, pair.taken) == pair.share
    assert worst_pairs(labels, predicted, 3) == found[:3]


def test_with_sizes_only_a_larger_class_swallows():
    labels, predicted = np.array([0, 0, 1, 1, 2]), np.array([1, 0, 0, 0, 1])
    assert worst_pairs(labels, predicted, 9, [100, 10, 5]) == [Pair(1, 0, 2, 100.0), Pair(2, 1, 1, 100.0)]
    assert worst_pairs(labels, predicted, 9, [10, 10, 10]) == []


def test_nothing_wrong_is_no_pair():
    labels = np.array([0, 1, 2])
    assert worst_pairs(labels, labels, 5) == []
    assert share_of(labels, labels, 7, 0) == 0.0
