"""Alarms about cached features: columns without information, and rows that occur in two splits."""

from collections.abc import Mapping
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.images.alarms import Alarm, alarm
from pipeline.longtail import evenly_spaced

if TYPE_CHECKING:
    from cache import FeatureCache

COMPARED = 1000
"""Rows of a split that are compared with every training row; more are sampled evenly."""
NEAR_SHARE = 0.01
"""A row is a near copy where its nearest training row lies nearer than this share of the median such distance."""


def feature_alarms(cache: "FeatureCache") -> list[Alarm]:
    """Constant and duplicate columns of the training features; rows of other splits that are training rows, or nearly."""
    train_ND = np.asarray(cache.features("train"))
    alarms = _columns(train_ND)
    rows_of = by_content(train_ND)
    if (copies := len(train_ND) - len(rows_of)) > 0:
        alarms += alarm("copies", "training rows have the features of another training row", [], copies)
    for split in (name for name in cache.splits if name != "train"):
        other_ND = np.asarray(cache.features(split))
        pairs = equal_pairs(rows_of, other_ND)
        named = [f"{split} row {row} = train row {known}" for row, known in pairs]
        if pairs and len(pairs) == len(other_ND) and len({known for _, known in pairs}) == len(rows_of):
            text = (
                f"the split {split} has the same features as the training split: figures on it say nothing of new rows"
            )
            alarms += alarm("test equals train", text, [], len(pairs))
            continue
        alarms += alarm("in two splits", f"rows of {split} have the features of a training row", named)
        alarms += _near(split, train_ND, other_ND, {row for row, _ in pairs})
    return alarms


def by_content(features_ND: NDArray[np.floating]) -> dict[bytes, int]:
    """The sha256 of a row's features -> the row, of equal rows the last. The features as keys would take their memory again."""
    return {sha256(features_D.tobytes()).digest(): row for row, features_D in enumerate(features_ND)}


def equal_pairs(rows_of: Mapping[bytes, int], other_ND: NDArray[np.floating]) -> list[tuple[int, int]]:
    """(row of the other split, training row) of rows that are equal bit for bit; `rows_of`: `by_content` of training rows."""
    keys = (sha256(features_D.tobytes()).digest() for features_D in other_ND)
    return [(row, rows_of[key]) for row, key in enumerate(keys) if key in rows_of]


def _columns(train_ND: NDArray[np.floating]) -> list[Alarm]:
    """Columns that are the same number in every row, and columns that repeat another one."""
    is_constant_D = train_ND.min(axis=0) == train_ND.max(axis=0)
    constant = np.flatnonzero(is_constant_D)
    first: dict[bytes, int] = {}
    repeats = []
    for column in np.flatnonzero(~is_constant_D).tolist():
        values = np.ascontiguousarray(train_ND[:, column]).tobytes()
        if values in first:
            repeats.append(f"{column} = {first[values]}")
        first.setdefault(values, column)
    named = [str(column) for column in constant.tolist()]
    alarms = alarm("constant features", "columns hold one number in every training row", named)
    return alarms + alarm("duplicate features", "columns repeat another column", repeats)


def _near(split: str, train_ND: NDArray[np.floating], other_ND: NDArray[np.floating], known: set[int]) -> list[Alarm]:
    """Rows of a split that are all but equal to a training row."""
    pairs = near_pairs(train_ND, other_ND)
    near = [f"{split} row {row} ~ train row {train_row}" for row, train_row in pairs if row not in known]
    text = f"of {min(len(other_ND), COMPARED):,} rows of {split} compared, rows are all but equal to a training row"
    return alarm("look alike", text, near)


def near_pairs(train_ND: NDArray[np.floating], other_ND: NDArray[np.floating]) -> list[tuple[int, int]]:
    """(row of the other split, training row) of rows that are all but equal, of at most COMPARED rows evenly over the split."""
    from sklearn.neighbors import NearestNeighbors

    rows = evenly_spaced(len(other_ND), COMPARED)
    if not len(rows):
        return []
    # Each column is divided by its spread, or the column of the largest numbers would decide the distance alone.
    scale_D = np.maximum(train_ND.astype(np.float32).std(axis=0), 1e-6)
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(train_ND.astype(np.float32) / scale_D)
    distance_N1, nearest_N1 = search.kneighbors(other_ND[rows].astype(np.float32) / scale_D)
    distance_N, nearest_N = distance_N1[:, 0], nearest_N1[:, 0]
    limit = NEAR_SHARE * float(np.median(distance_N))
    return [
        (row, int(nearest_N[place]))
        for place, row in enumerate(rows.tolist())
        if distance_N[place] < limit or (other_ND[row] == train_ND[nearest_N[place]]).all()
    ]
