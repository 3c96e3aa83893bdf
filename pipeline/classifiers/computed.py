"""Heads that are computed from the training rows' clean features: the rows of the register for them, and `auto`."""

import torch
from torch import Tensor

from pipeline.classifiers import candidates, committee
from pipeline.classifiers.discriminant import Transfer
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.neighbours import fit_neighbours
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.ridge import fit_ridge
from pipeline.classifiers.scored import Scored, Selection
from pipeline.features import Features


def logistic(problem: Problem) -> Classifier:
    """L2-regularised logistic regression on the rows as they are, then adjusted by the training prior."""
    settings = problem.settings
    return _linear(problem, candidates.Logistic(settings.l2, settings.tau))


def lda(problem: Problem) -> Classifier:
    """Linear discriminants with a shrunk covariance and a flat prior."""
    return _linear(problem, Transfer(problem.settings.shrinkage, 0.0))


def transfer(problem: Problem) -> Classifier:
    """Linear discriminants whose class means move towards those of classes like them, the rarest furthest."""
    settings = problem.settings
    return _linear(problem, Transfer(settings.shrinkage, settings.transfer))


def knn(problem: Problem) -> Scored:
    """The nearest training rows vote, a class's votes divided by its rows."""
    rows_ND = clean(problem.train)
    fitted = fit_neighbours(rows_ND, problem.train.labels_N, problem.classes, problem.settings.neighbours)
    return Scored(fitted.scores, {"rows": rows_ND, "labels": problem.train.labels_N})


def ridge(problem: Problem) -> Scored:
    """Ridge regression on random ReLU features, its strength by rows held out (RanPAC)."""
    fitted = fit_ridge(clean(problem.train), problem.train.labels_N, problem.classes, problem.seeds[0])
    return Scored(fitted.scores, {"projection": fitted.projection_DM, "weight": fitted.weight_MC})


def auto(problem: Problem) -> Classifier:
    """The likeliest of these arms, averaged, chosen without the test split.

    On the `val` split where there is one; else by cross-validation over the training rows where the backbone never saw them;
    else by a fixed rule, since rows that the backbone was trained on say nothing of new ones.
    """
    rows_ND, labels_N, classes = clean(problem.train), problem.train.labels_N, problem.classes
    metric = problem.metric
    if problem.val is None and not problem.unseen:
        weight_CD, bias_C = candidates.fit(candidates.SEEN, rows_ND, labels_N, classes)
        selection = Selection(
            on="a fixed rule: the backbone was trained on these rows", members={candidates.name(candidates.SEEN): 1.0}
        )
        return Classifier(weight_CD[None], bias_C[None], selection)
    val = None if problem.val is None else (clean(problem.val), problem.val.labels_N)
    elected = committee.elect(rows_ND, labels_N, classes, metric, problem.seeds[0], val)
    on = (
        "val"
        if val
        else f"{elected.folds}-fold cross-validation"
        if elected.folds
        else "nothing: no class has two rows"
    )
    selection = Selection(
        on=on,
        metric=metric,
        score=None if elected.score is None else elected.score.accuracy,
        certain=None if elected.choice is None else elected.choice.certain,
        members={candidates.name(arm): share for arm, share in elected.members.items()},
    )
    return Classifier(elected.weight_CD[None], elected.bias_C[None], selection)


def clean(rows: Features) -> Tensor:
    """The clean view of all rows, float32 (N, D)."""
    return torch.cat([rows.gather(0, rows_B) for rows_B in rows.blocks()])


def _linear(problem: Problem, arm: candidates.Arm) -> Classifier:
    weight_CD, bias_C = candidates.fit(arm, clean(problem.train), problem.train.labels_N, problem.classes)
    return Classifier(weight_CD[None], bias_C[None])
