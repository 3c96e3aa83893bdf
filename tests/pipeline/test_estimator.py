"""The heads as a scikit-learn classifier."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from pipeline.estimator import LongTailClassifier

HEADS = ("lda", "logistic", "ncm", "knn", "ridge")
NOT_HERE = {"check_array_api_input", "check_classifier_data_not_an_array"}
"""Checks that scikit-learn itself leaves out where an array-API library, or pandas, is missing."""
EXEMPT = {"ridge": {"check_methods_subset_invariance": "computes in float32, whose last digit depends on the batch"}}
"""Head -> check -> why it need not hold. No other head is exempt from any check."""


def _rows(seed=0):
    """Three classes of 40, 12 and 4 rows around points of their own."""
    draw = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], [40, 12, 4])
    return draw.normal(size=(56, 5)) + 3 * np.eye(3, 5)[labels], np.array(["head", "medium", "tail"])[labels]


@pytest.mark.parametrize("head", HEADS)
def test_scikit_learns_own_checks_hold(head):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(LongTailClassifier(head), on_fail=None, on_skip=None)
    exempt = set(EXEMPT.get(head, {}))
    ended = {result["check_name"]: result["status"] for result in results if result["status"] != "passed"}
    assert set(ended) <= NOT_HERE | exempt, ended
    assert {status for name, status in ended.items() if name not in exempt} <= {"skipped"}
    assert len(results) > 40


def test_nearest_class_mean_is_the_nearest_class_mean():
    X, y = _rows()
    classifier = LongTailClassifier("ncm", options={"distance": "l2"}, standardise=False).fit(X, y)
    means = np.stack([X[y == name].mean(axis=0) for name in classifier.classes_])
    other, _ = _rows(1)
    nearest = ((other[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (classifier.predict(other) == classifier.classes_[nearest]).all()


def test_a_trained_head_averages_its_seeds_and_repeats_itself():
    X, y = _rows()
    classifier = LongTailClassifier("crt", options={"seeds": 2, "epochs": 3}, seed=4)
    first, again = (clone(classifier).fit(X, y).predict_proba(X) for _ in range(2))
    assert (first == again).all()
    alone = [LongTailClassifier("crt", options={"epochs": 3}, seed=seed).fit(X, y).predict_proba(X) for seed in (4, 5)]
    assert np.allclose(first, np.mean(alone, axis=0), atol=1e-5)
    assert np.allclose(first.sum(axis=1), 1)


def test_it_stands_in_a_cross_validation_and_leaves_the_global_generator_alone():
    X, y = _rows()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    scores = cross_val_score(LongTailClassifier("lda"), X, y, cv=3, scoring="balanced_accuracy")
    assert scores.mean() > 0.6
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("classifier", "change", "said"),
    [
        (LongTailClassifier("nothing"), None, "Input should be 'stage1', "),
        (
            LongTailClassifier("crt", options={"augmentation": "stg"}),
            None,
            "is made from a cache; use pipeline.retrain",
        ),
        (LongTailClassifier("lda"), 1e35, "wanted features of at most 1e+30, found 1e+35; rescale them"),
        (LongTailClassifier("lda"), np.nan, "Input X contains NaN"),
    ],
)
def test_what_does_not_hold_is_said(classifier, change, said):
    X, y = _rows()
    if change is not None:
        X[3, 2] = change
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        classifier.fit(X, y)
    assert said in str(raised.value)


def test_the_stage_1_head_says_that_an_array_has_none():
    with pytest.raises(Exception, match="wants the stage-1 classifier, the array holds none"):
        LongTailClassifier("stage1").fit(*_rows())
