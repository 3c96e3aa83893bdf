"""Figures of a classifier: over rows, over classes, by group."""

import pytest
import torch

from pipeline.longtail import group_limits, shot_groups
from pipeline.metrics import evaluate, worst_tenth


def test_accuracy_is_over_rows_and_groups_are_means_over_classes():
    """A long-tailed test split: 90 of 100 rows right in one many-shot class, 1 of 2 in the other, 0 of 1 in the few-shot one."""
    labels = torch.tensor([0] * 100 + [1] * 2 + [2])
    predicted = torch.tensor([0] * 90 + [1] * 10 + [1, 0] + [0])
    found = evaluate(torch.nn.functional.one_hot(predicted, 4).float(), labels, [500, 200, 5, 5])
    assert found.accuracy == pytest.approx(100 * 91 / 103)
    assert found.many == pytest.approx(70.0)
    assert found.medium is None
    assert found.few == 0.0
    assert found.balanced_accuracy == pytest.approx(140 / 3)
    assert found.per_class == [90.0, 50.0, 0.0, None]


@pytest.mark.parametrize(
    ("counts", "limits"),
    [
        ((500, 100, 20, 5), (100, 20)),
        ((60, 50, 40, 30, 20, 10), (40, 30)),
        ((52, 52, 8, 8, 8, 8), (8, 8)),
        ((3,), (3, 3)),
    ],
)
def test_limits_are_the_field_s_or_thirds(counts, limits):
    assert group_limits(counts) == limits
    groups = shot_groups(counts, *limits)
    assert sorted(c for members in groups.values() for c in members) == list(range(len(counts)))


def test_a_limit_that_is_given_is_kept():
    assert group_limits((60, 50, 40, 30, 20, 10), 45) == (45, 30)
    assert group_limits((60, 50, 40, 30, 20, 10), 0, 15) == (40, 15)
    assert group_limits((500, 30, 4), 10) == (10, 11)


def test_worst_tenth_is_the_mean_of_the_worst_classes_with_rows():
    values = [float(value) for value in range(25)]
    assert worst_tenth([None, *reversed(values)]) == 1.0  # 0, 1 and 2 of 25
    assert worst_tenth([50.0, 20.0, None]) == 20.0
    with pytest.raises(ValueError, match="worst_tenth: no class has rows"):
        worst_tenth([None])
