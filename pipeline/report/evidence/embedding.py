"""Features as points of a plane: t-SNE, and what a classifier decides around them. Pure and seeded."""

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
PERPLEXITY = 30.0
"""Neighbours that t-SNE keeps close, as in van der Maaten and Hinton (2008); less where there are few points."""
STEPS = 500
GRID = 120
"""Cells of a map of decisions, in each direction."""
VOTES = 5
"""Points whose predictions a cell of the map follows."""


def tsne(features_ND: NDArray[np.floating], seed: int) -> Points:
    """The rows as points (N, 2) by t-SNE (van der Maaten and Hinton, 2008), from the two main directions, seeded.

    Raises ValueError for fewer than 5 rows.
    """
    if len(features_ND) < 5:
        raise ValueError(f"tsne: wanted at least 5 rows, found {len(features_ND)}")
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    perplexity = min(PERPLEXITY, (len(features_ND) - 1) / 3)
    fitted = TSNE(2, perplexity=perplexity, max_iter=STEPS, init="pca", learning_rate="auto", random_state=seed)
    with threadpool_limits(1):  # threads add up in any order, which moves the last bits, and t-SNE amplifies that
        return np.asarray(fitted.fit_transform(np.asarray(features_ND, dtype=np.float32)), dtype=np.float64)


def extent(points_N2: Points, margin: float = 0.05) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the points, with a margin that is a share of their width and height."""
    low, high = points_N2.min(axis=0), points_N2.max(axis=0)
    space = margin * np.maximum(high - low, 1e-9)
    (left, bottom), (right, top) = low - space, high + space
    return float(left), float(right), float(bottom), float(top)


def decision_map(points_N2: Points, decided_N: NDArray[np.int64], cells: int = GRID) -> NDArray[np.int64]:
    """What is decided around the points, (cells, cells), rows from the bottom up: each cell follows its nearest points' vote.

    A plane of t-SNE has no way back to features, so the decisions at the points are all that is known of it.
    """
    from sklearn.neighbors import KNeighborsClassifier

    left, right, bottom, top = extent(points_N2)
    across, up = np.meshgrid(np.linspace(left, right, cells), np.linspace(bottom, top, cells))
    neighbours = KNeighborsClassifier(min(VOTES, len(points_N2))).fit(points_N2, decided_N)
    return np.asarray(neighbours.predict(np.column_stack([across.ravel(), up.ravel()]))).reshape(cells, cells)


def main_plane(features_ND: NDArray[np.floating]) -> tuple[Points, Points]:
    """Mean (D,) and the two main directions (D, 2) of the rows; each direction's largest entry is positive."""
    rows_ND = np.asarray(features_ND, dtype=np.float64)
    mean_D = rows_ND.mean(axis=0)
    _, _, directions = np.linalg.svd(rows_ND - mean_D, full_matrices=False)
    plane_D2 = directions[:2].T
    sign_2 = np.sign(plane_D2[np.abs(plane_D2).argmax(axis=0), range(plane_D2.shape[1])])
    return mean_D, plane_D2 * np.where(sign_2 == 0, 1, sign_2)
