"""Class counts, draws and groups against the published figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.longtail import (
    class_counts,
    draw,
    evenly_spaced,
    groups_with_test_rows,
    hold_out,
    largest_n_max,
    shot_groups,
)
from pipeline.settings.stage1 import LongTail


@pytest.mark.parametrize(
    ("n_max", "classes", "totals"),
    [(5000, 10, {10: 20431, 50: 13996, 100: 12406}), (500, 100, {10: 19573, 50: 12608, 100: 10847})],
)
def test_cifar_lt_has_its_published_sizes(n_max, classes, totals):
    assert {factor: sum(class_counts(n_max, classes, factor)) for factor in totals} == totals


def test_profile_runs_from_n_max_to_its_imbalance_factor():
    counts = class_counts(5000, 10, 100)
    assert counts == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert class_counts(7, 1, 100) == [7]


def test_groups_of_cifar100_lt_are_35_35_30():
    groups = shot_groups(class_counts(500, 100, 100))
    assert [len(groups[name]) for name in ("many", "medium", "few")] == [35, 35, 30]


def test_group_boundaries_belong_to_medium():
    assert shot_groups([101, 100, 20, 19]) == {"many": [0], "medium": [1, 2], "few": [3]}


def test_groups_count_the_classes_that_have_test_rows():
    train, test = np.array([120, 101, 50, 20, 19, 3]), np.array([5, 0, 5, 5, 0, 5])
    assert groups_with_test_rows(train, test, LongTail()) == ({"many": 1, "medium": 2, "few": 1}, (100, 20))
    assert groups_with_test_rows(train, test, LongTail(many_above=60, few_below=21)) == (
        {"many": 1, "medium": 1, "few": 2},
        (60, 21),
    )


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20), st.integers(1, 200), st.integers(0, 200))
def test_every_class_is_in_one_group(counts, many_above, few_below):
    groups = shot_groups(counts, many_above, min(few_below, many_above + 1))
    assert sorted(c for group in groups.values() for c in group) == list(range(len(counts)))


@given(st.lists(st.integers(1, 400), min_size=2, max_size=12), st.floats(1, 200))
def test_largest_n_max_is_the_largest_that_fits(available, factor):
    n_max = largest_n_max(available, factor)

    def fits(size):
        return all(n <= has for n, has in zip(class_counts(size, len(available), factor), available, strict=True))

    assert fits(n_max)
    assert not fits(n_max + 1)


def _labels(counts, seed=0):
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(seed).permutation(labels)


@pytest.mark.parametrize("how", ["shuffle", "cao"])
def test_draw_keeps_the_wanted_counts_in_row_order(how):
    labels = _labels([50, 40, 30])
    rows = draw(labels, [20, 10, 1], 3, how)
    assert np.bincount(labels[rows]).tolist() == [20, 10, 1]
    assert (np.diff(rows) > 0).all()


def test_draw_depends_on_the_seed_alone():
    labels = _labels([50, 40, 30])
    first = draw(labels, [20, 10, 1], 3)
    assert draw(labels, [20, 10, 1], 3).tolist() == first.tolist()
    assert draw(labels, [20, 10, 1], 4).tolist() != first.tolist()


def test_smaller_draws_are_subsets_of_larger_ones():
    labels = _labels([50, 40, 30])
    assert set(draw(labels, [20, 10, 1], 3)) < set(draw(labels, [20, 20, 5], 3))


def _reference_cao(targets, counts):
    """As the LDAM code's gen_imbalanced_data draws: one legacy generator, seeded with 0, classes in order."""
    np.random.seed(0)  # noqa: NPY002
    chosen = []
    for the_class, the_img_num in enumerate(counts):
        idx = np.where(targets == the_class)[0]
        np.random.shuffle(idx)  # noqa: NPY002
        chosen.extend(idx[:the_img_num])
    return chosen


def test_cao_draw_is_that_of_the_ldam_code():
    labels = _labels([50, 40, 30])
    assert sorted(_reference_cao(labels, [20, 10, 3])) == draw(labels, [20, 10, 3], 99, "cao").tolist()


def test_draw_refuses_more_than_there_is():
    with pytest.raises(DataError) as error:
        draw(_labels([5, 4]), [5, 5], 0)
    assert str(error.value) == "class 1: wanted 5 images, found 4"


def test_hold_out_is_stratified_and_disjoint():
    labels = _labels([50, 10, 2])
    kept, held_out = hold_out(labels, 0.2, 0)
    assert np.bincount(labels[held_out]).tolist() == [10, 2, 1]
    assert sorted([*kept, *held_out]) == list(range(62))


def test_hold_out_refuses_a_class_of_one():
    with pytest.raises(DataError) as error:
        hold_out(_labels([5, 1]), 0.2, 0)
    assert str(error.value) == "class 1: wanted at least 2 images to hold one out, found 1"


def test_a_class_of_one_stays_where_that_is_asked_for():
    kept, held_out = hold_out(_labels([5, 1, 10]), 0.2, 0, singles_stay=True)
    assert np.bincount(_labels([5, 1, 10])[held_out], minlength=3).tolist() == [1, 0, 2]
    assert sorted([*kept, *held_out]) == list(range(16))
    kept, held_out = hold_out(_labels([1, 1]), 0.2, 0, singles_stay=True)
    assert (kept.tolist(), held_out.tolist()) == ([0, 1], [])


@pytest.mark.parametrize(
    ("rows", "count", "expected"),
    [
        (0, 5, []),
        (1, 5, [0]),
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 5, [0, 2, 4, 6, 8]),
        (10, 4, [0, 3, 6, 9]),
        (10, 1, [0]),
        (10, 0, []),
    ],
)
def test_evenly_spaced_rows_hold_both_ends(rows, count, expected):
    assert evenly_spaced(rows, count).tolist() == expected
    assert evenly_spaced(rows, count).dtype == np.int64
