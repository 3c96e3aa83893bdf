"""Rows of a cache whose label may be wrong, rows that stand in two splits, and classes that are hard to tell apart."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pipeline.errors import DataError
from pipeline.inspecting.features import by_content, equal_pairs, near_pairs
from pipeline.longtail import Rows
from pipeline.progress import track

if TYPE_CHECKING:
    from cache import FeatureCache

LABEL_FOLDS = 5
DIRECTIONS = 256
"""Wider features are projected on so many principal directions: those that vary most."""
PENALTY = 1.0
"""C of scikit-learn's logistic regression, its default."""
SOLVER_STEPS = 100
"""Of the solver, at most: the order of margins is settled long before the last digit of the weights."""
LABEL_WORK = 2_000_000_000
"""Rows times columns times classes up to which labels are looked at without being asked: about a minute on one core."""
LISTED = 200
"""The most rows, pairs of rows and pairs of classes that are listed."""


class SuspiciousRow(BaseModel):
    """A training row that a classifier of the other rows takes for another class."""

    model_config = ConfigDict(frozen=True)

    row: int
    sample_id: str
    label: str
    taken_for: str
    """The likeliest other class."""
    margin: float
    """Probability of the label minus that of `taken_for`, between -1 and 1: the lower, the more suspicious."""


class SharedRow(BaseModel):
    """A row of another split that is all but equal to a training row."""

    model_config = ConfigDict(frozen=True)

    split: str
    row: int
    sample_id: str
    train_row: int
    train_sample_id: str
    same_label: bool


class ConfusedPair(BaseModel):
    """Two classes, and the share of their training rows, percent, that are taken for the other of the two."""

    model_config = ConfigDict(frozen=True)

    first: str
    second: str
    confused: float
    rows: int


class LabelFindings(BaseModel):
    """What `label_findings` gives; each list has the most suspicious first, and at most LISTED of them."""

    model_config = ConfigDict(frozen=True)

    suspicious: tuple[SuspiciousRow, ...]
    negative: int
    """Rows of all whose margin is below 0, listed or not."""
    shared: tuple[SharedRow, ...]
    in_two_splits: int
    """Rows of other splits that are all but equal to a training row, listed or not."""
    confused: tuple[ConfusedPair, ...]
    unranked: int
    """Rows of classes that have one row alone: without it, nothing is known of the class."""


def is_quick(cache: "FeatureCache") -> bool:
    """Whether looking at this cache's labels takes about a minute at most."""
    identity = cache.manifest.identity
    rows = identity.splits["train"].rows if "train" in identity.splits else 0
    return rows * min(identity.width, DIRECTIONS) * len(identity.classes) <= LABEL_WORK


def label_findings(cache: "FeatureCache") -> LabelFindings:
    """Look at the labels of the training rows, and for training rows in other splits. The same cache gives the same lists.

    Each row is judged by a logistic regression that was fitted without it, on four fifths of the rows, with every class weighing
    alike: a rare class is not suspicious for being rare. The margin is that of Northcutt et al. (2021), "Confident learning",
    section 2. Raises DataError without training rows of two classes.
    """
    rows, labels_N = cache.rows("train"), cache.labels("train")
    train_ND = np.asarray(cache.features("train"), dtype=np.float32)
    counts_C = np.bincount(labels_N, minlength=len(cache.classes))
    ranked_N = counts_C[labels_N] > 1
    if len(np.unique(labels_N[ranked_N])) < 2:
        raise DataError(f"cache {cache.key[:12]}: wanted two classes of at least 2 training rows to judge labels by")
    probabilities_NC = out_of_sample(train_ND, labels_N, len(cache.classes))
    predicted_N, every_N = probabilities_NC.argmax(axis=1), np.arange(len(labels_N))
    own_N = probabilities_NC[every_N, labels_N].copy()
    probabilities_NC[every_N, labels_N] = -1  # what is left are the other classes
    taken_for_N = probabilities_NC.argmax(axis=1)
    margin_N = own_N - probabilities_NC[every_N, taken_for_N]
    order = [row for row in np.argsort(margin_N, kind="stable") if ranked_N[row] and margin_N[row] < 0]
    suspicious = [
        SuspiciousRow(
            row=int(row),
            sample_id=str(rows["sample_id"][int(row)]),
            label=cache.classes[labels_N[row]],
            taken_for=cache.classes[taken_for_N[row]],
            margin=round(float(margin_N[row]), 4),
        )
        for row in order[:LISTED]
    ]
    shared = _shared(cache, train_ND)
    return LabelFindings(
        suspicious=tuple(suspicious),
        negative=len(order),
        shared=tuple(shared[:LISTED]),
        in_two_splits=len(shared),
        confused=tuple(_confused(cache.classes, labels_N, predicted_N)),
        unranked=int((~ranked_N).sum()),
    )


def out_of_sample(features_ND: NDArray[np.float32], labels_N: Rows, classes: int) -> NDArray[np.float64]:
    """Probabilities (N, C) of each row by a logistic regression of the rows of the other folds; 0 for a class not among them.

    The only row of a class is held out by no fold, so all of its probabilities are 0.
    """
    import torch
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from pipeline.classifiers.selection import stratified_folds

    fold_N = stratified_folds(torch.as_tensor(labels_N, dtype=torch.long), classes, LABEL_FOLDS).numpy()
    probabilities_NC = np.zeros((len(labels_N), classes))
    steps = [StandardScaler()]
    if features_ND.shape[1] > DIRECTIONS and len(labels_N) * (LABEL_FOLDS - 1) // LABEL_FOLDS > DIRECTIONS:
        steps.append(PCA(DIRECTIONS, svd_solver="covariance_eigh"))
    with track(LABEL_FOLDS, "judging labels", "folds") as progress:
        for fold in range(LABEL_FOLDS):
            held_out_N = fold_N == fold
            if held_out_N.any():
                model = make_pipeline(
                    *steps, LogisticRegression(C=PENALTY, max_iter=SOLVER_STEPS, class_weight="balanced")
                )
                _fit_quietly(model, features_ND[~held_out_N], labels_N[~held_out_N])
                columns = model.classes_
                probabilities_NC[np.ix_(held_out_N, columns)] = model.predict_proba(features_ND[held_out_N])
            progress.advance(1)
    return probabilities_NC


def _fit_quietly(model: object, features_ND: NDArray[np.float32], labels_N: Rows) -> None:
    """Fit without scikit-learn's warning: the solver is meant to stop at SOLVER_STEPS."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features_ND, labels_N)  # type: ignore[attr-defined]


def _shared(cache: "FeatureCache", train_ND: NDArray[np.float32]) -> list[SharedRow]:
    """Rows of other splits that are all but equal to a training row; those of another label there first."""
    train_ids, train_labels_N = cache.rows("train")["sample_id"], cache.labels("train")
    of_train = by_content(train_ND)
    shared: list[SharedRow] = []
    for split in (name for name in cache.splits if name != "train"):
        ids, labels_N = cache.rows(split)["sample_id"], cache.labels(split)
        other_ND = np.asarray(cache.features(split), dtype=np.float32)
        pairs = sorted((dict(near_pairs(train_ND, other_ND)) | dict(equal_pairs(of_train, other_ND))).items())
        shared += [
            SharedRow(
                split=split,
                row=row,
                sample_id=str(ids[row]),
                train_row=train_row,
                train_sample_id=str(train_ids[train_row]),
                same_label=bool(labels_N[row] == train_labels_N[train_row]),
            )
            for row, train_row in pairs
        ]
    return sorted(shared, key=lambda pair: pair.same_label)  # another label there is the worse


def _confused(classes: tuple[str, ...], labels_N: Rows, taken_N: Rows) -> list[ConfusedPair]:
    """Pairs of classes of which some rows are taken for the other one, the largest share first.

    A class of one row is in no pair: that row was judged by nothing, and rows taken for its class say little of one row.
    """
    counts_C = np.bincount(labels_N, minlength=len(classes))
    codes = labels_N * len(classes) + taken_N
    confusion_CC = np.bincount(codes, minlength=len(classes) ** 2).reshape(len(classes), -1)
    mutual_CC = np.triu(confusion_CC + confusion_CC.T, k=1)
    mutual_CC[counts_C < 2] = mutual_CC[:, counts_C < 2] = 0
    pairs = [
        ConfusedPair(
            first=classes[a],
            second=classes[b],
            confused=round(100 * float(mutual_CC[a, b]) / int(counts_C[a] + counts_C[b]), 1),
            rows=int(mutual_CC[a, b]),
        )
        for a, b in zip(*np.nonzero(mutual_CC), strict=True)
    ]
    return sorted(pairs, key=lambda pair: (-pair.confused, -pair.rows, pair.first, pair.second))[:LISTED]
