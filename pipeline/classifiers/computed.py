"""Heads that are computed from the training rows' clean features. Each function here is a row of the register in `kinds.py`."""

import torch
from torch import Tensor

from pipeline.classifiers import candidates, committee
from pipeline.classifiers.discriminant import Transfer
from pipeline.classifiers.held_out import compared_rows, likeliest
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.neighbours import fit_neighbours
from pipeline.classifiers.present import on_present
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.ridge import fit_ridge
from pipeline.classifiers.scaling import fit_scaling, scaled
from pipeline.classifiers.scored import Scored, Selection
from pipeline.classifiers.selection import Choice, Score
from pipeline.features import Features

TRIED: dict[str, tuple[float, ...]] = {
    "l2": (0.003, 0.01, 0.03, 0.1, 0.3),
    "shrinkage": (0.1, 0.3, 0.6, 0.8, 0.95),
    "transfer": (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0),
}
"""The values among which a head chooses where the setting is `auto`, about a factor of 2 or 3 apart. Those of `tau` are
`candidates.TAUS`."""


@on_present
def logistic(problem: Problem) -> Classifier:
    """Logistic regression with an L2 penalty on rows sampled as they are, its bias then adjusted by the training prior."""
    strengths, taus = _values(problem, "l2"), _values(problem, "tau")
    return _likeliest(problem, [candidates.Logistic(strength, tau) for strength in strengths for tau in taus])


@on_present
def lda(problem: Problem) -> Classifier:
    """Linear discriminants with a shrunk covariance and a flat prior."""
    return _likeliest(problem, [Transfer(shrinkage, 0.0) for shrinkage in _values(problem, "shrinkage")])


@on_present
def transfer(problem: Problem) -> Classifier:
    """Linear discriminants whose class means move towards those of similar classes; the rarer a class, the further."""
    shrinkages, strengths = _values(problem, "shrinkage"), _values(problem, "transfer")
    return _likeliest(problem, [Transfer(shrinkage, strength) for shrinkage in shrinkages for strength in strengths])


def scaling(problem: Problem) -> Classifier:
    """Vector scaling: each class's logit times a scale of its own, plus a shift of its own (MARC: Wang et al., 2022).

    It acts on the stage-1 classifier, or on logistic regression where the cache has none. The two numbers of a class are learnt
    on the `val` split. Without one they are learnt on held-out folds in the second case, and in the first, as in the paper, on
    the training rows.
    """
    rows_ND, labels_N, classes = clean(problem.train), problem.train.labels_N, problem.classes
    base = candidates.Logistic(tau=0.0, shrinkage=None)
    weight_CD, bias_C = problem.stage1 or candidates.fit(base, rows_ND, labels_N, classes)
    if problem.val is not None:
        logits_HC, labels_H = clean(problem.val) @ weight_CD.T + bias_C, problem.val.labels_N
    else:
        logits_HC, labels_H = rows_ND @ weight_CD.T + bias_C, labels_N
        held_out_rows = compared_rows(rows_ND, labels_N, classes, 1, problem.metric, problem.seeds[0])
        if problem.stage1 is None and held_out_rows.folds:
            logits_HC, labels_H = held_out_rows.scores([base], classes)[base], held_out_rows.labels_H
    scale_C, shift_C = fit_scaling(logits_HC, labels_H, weight_CD.norm(dim=1), problem.metric)
    weight_CD, bias_C = scaled(weight_CD, bias_C, scale_C, shift_C)
    return Classifier(weight_CD[None], bias_C[None], prior_power=_learnt_prior(problem))


def knn(problem: Problem) -> Scored:
    """The nearest training rows vote, a class's votes divided by its rows."""
    rows_ND = clean(problem.train)
    return Scored(fit_neighbours(rows_ND, problem.train.labels_N, problem.classes, problem.settings.neighbours))


def ridge(problem: Problem) -> Scored:
    """Ridge regression on random ReLU features, its strength by rows held out (RanPAC)."""
    fitted = fit_ridge(clean(problem.train), problem.train.labels_N, problem.classes, problem.seeds[0])
    return Scored(fitted.network, prior_power=None)


@on_present
def auto(problem: Problem) -> Classifier:
    """The arms that are likeliest on held-out rows, averaged; the test split has no part in it.

    The held-out rows are the `val` split where there is one, else folds of the training rows, which the backbone must not have
    seen. Where it has seen them, `fixed_rule` stands in.
    """
    rows_ND, labels_N, classes = clean(problem.train), problem.train.labels_N, problem.classes
    elected = committee.elect(rows_ND, labels_N, classes, problem.metric, problem.seeds[0], _val(problem))
    members = {candidates.name(arm): share for arm, share in elected.members.items()}
    selection = _selection(problem, elected.on, elected.score, elected.choice, members)
    return Classifier(elected.weight_CD[None], elected.bias_C[None], selection, _learnt_prior(problem))


def clean(rows: Features) -> Tensor:
    """The clean view of all rows, float32 (N, D)."""
    clean_ND = torch.empty(len(rows.labels_N), rows.width)
    for part_BD, rows_B in zip(clean_ND.split(rows.block_rows), rows.blocks(), strict=True):
        part_BD.copy_(rows.gather(0, rows_B))
    return clean_ND


def _values(problem: Problem, name: str) -> tuple[float, ...]:
    """The values of a setting to choose among, the one that `auto` otherwise stands for first; the number given alone."""
    value = getattr(problem.settings, name)
    if value != "auto":
        return (float(value),)
    usual = problem.settings.number(name)
    tried = candidates.TAUS[problem.metric] if name == "tau" else TRIED[name]
    return usual, *(other for other in tried if other != usual)


def _likeliest(problem: Problem, arms: list[candidates.Arm]) -> Classifier:
    """The arm that is likeliest on held-out rows, fitted on all training rows; a single arm is not compared.

    What is compared is divided by its temperature on those rows: penalised fits are too unsure, discriminants too
    sure of themselves.
    """
    rows_ND, labels_N, classes = clean(problem.train), problem.train.labels_N, problem.classes
    arm, selection, temperature = arms[0], None, 1.0
    if len(arms) > 1:
        arm, choice, on = likeliest(arms, rows_ND, labels_N, classes, problem.metric, problem.seeds[0], _val(problem))
        name = candidates.name(arm)
        score = None if choice is None else choice.scores[name]
        selection = _selection(problem, on, score, choice, {name: 1.0})
        temperature = 1.0 if score is None else score.temperature
    weight_CD, bias_C = (part / temperature for part in candidates.fit(arm, rows_ND, labels_N, classes))
    power = (1 - arm.tau) / temperature if isinstance(arm, candidates.Logistic) else 0.0
    return Classifier(weight_CD[None], bias_C[None], selection, power)


def _learnt_prior(problem: Problem) -> float:
    """The prior's power in logits that were fitted to rows weighted by the metric: flat, or as the training rows are."""
    return 0.0 if problem.metric == "balanced" else 1.0


def _val(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """Features and labels of the `val` split, where there is one."""
    return None if problem.val is None else (clean(problem.val), problem.val.labels_N)


def _selection(
    problem: Problem, on: str, score: Score | None, choice: Choice | None, members: dict[str, float]
) -> Selection:
    return Selection(
        on=on,
        metric=problem.metric,
        score=None if score is None else score.accuracy,
        certain=None if choice is None else choice.certain,
        members=members,
    )
