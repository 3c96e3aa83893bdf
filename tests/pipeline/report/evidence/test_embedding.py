"""Planes of features."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from pipeline.report.evidence.embedding import decision_map, extent, main_plane, tsne

ROWS = np.random.default_rng(0).normal(size=(40, 6)) * np.array([5, 3, 1, 1, 1, 1])


def test_the_same_seed_gives_the_same_points():
    found = tsne(ROWS, 3)
    assert found.shape == (40, 2)
    assert np.array_equal(found, tsne(ROWS, 3))


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="tsne: wanted at least 5 rows, found 4"):
        tsne(ROWS[:4], 0)


def test_a_map_follows_the_nearest_points():
    points = np.array([[x, y] for x in (0.0, 10.0) for y in (0.0, 0.1, 0.2, 0.3, 0.4)])
    decided = np.repeat([4, 7], 5)
    found = decision_map(points, decided, cells=20)
    assert set(found[:, :9].ravel()) == {4}
    assert set(found[:, 11:].ravel()) == {7}
    assert extent(points, 0.1) == pytest.approx((-1, 11, -0.04, 0.44))


def test_the_main_plane_is_that_of_principal_components():
    mean, plane = main_plane(ROWS)
    reference = PCA(2).fit(ROWS)
    assert np.allclose(mean, reference.mean_)
    assert np.allclose(np.abs(plane.T @ reference.components_.T), np.eye(2), atol=1e-8)
