"""Heads that learn from rows are fitted on the classes that have training rows; the other classes are never predicted."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.problem import Problem
from pipeline.features import Features


def on_present(head: Callable[[Problem], Classifier]) -> Callable[[Problem], Classifier]:
    """The head on the classes that have training rows, as a classifier of all C: the others get weight 0 and bias -inf.

    Of 10,000 classes of which 50 have rows, the head then does the work of 50. A `val` row of a class without training rows is
    left out: no arm can be right on it.
    """

    def fit(problem: Problem) -> Classifier:
        present_K = (problem.train.counts_C > 0).nonzero()[:, 0]
        if len(present_K) == problem.classes:
            return head(problem)
        val = None if problem.val is None else _only(problem.val, present_K)
        if val is not None and len(val.labels_N) == 0:
            val = None
        classifier = head(replace(problem, train=_only(problem.train, present_K), val=val))
        replicas, _, width = classifier.weight_RCD.shape
        weight_RCD = classifier.weight_RCD.new_zeros(replicas, problem.classes, width)
        bias_RC = torch.full((replicas, problem.classes), -torch.inf)
        weight_RCD[:, present_K], bias_RC[:, present_K] = classifier.weight_RCD, classifier.bias_RC
        return replace(classifier, weight_RCD=weight_RCD, bias_RC=bias_RC)

    return fit


def _only(rows: Features, present_K: Tensor) -> Features:
    """The rows of these classes, which are numbered 0 to K-1."""
    number_C = torch.full((len(rows.counts_C),), -1)
    number_C[present_K] = torch.arange(len(present_K))
    numbers_N = number_C[rows.labels_N]
    kept = rows if bool((numbers_N >= 0).all()) else rows.select((numbers_N >= 0).nonzero()[:, 0])
    return replace(kept, labels_N=number_C[kept.labels_N], counts_C=rows.counts_C[present_K])
