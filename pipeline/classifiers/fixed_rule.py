"""What `auto` is where no rows can tell one arm from another: on features of a backbone that was trained on these rows. Pure.

A backbone is right on nearly all rows it was trained on, so held-out ones among them say nothing of new rows. The rule is the
mean of two classifiers that err differently: a trained head, the logit-adjusted loss from the stage-1 classifier on, whose few
epochs do not fit the tail's rows as closely as heads that are solved to the end; and penalised logistic regression. RESULTS.md
has its figures, and says on which of them it was picked.

The trained head is too sure of itself on some backbones, by 12 points on CIFAR-100-LT. No temperature can be fitted to labels
of rows that the backbone has seen. But where the backbone has fitted its rows, logistic regression on the same features was
about as sure as it is right. So the head is divided by the temperature that brings its probabilities nearest to those of
logistic regression, on the training rows.

A backbone that was trained for too short a time to fit its rows is another case. There cross-validation on these rows does tell
one penalty from another, and the rule is logistic regression alone, with the likeliest penalty, divided by the temperature of
its held-out rows.
"""

import math
from dataclasses import replace

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from pipeline.classifiers import candidates
from pipeline.classifiers.computed import clean
from pipeline.classifiers.held_out import WORK, likeliest
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Selection
from pipeline.features import Features
from pipeline.settings import Retrain, Settings

RULE = Retrain(head="logit-adjusted", augmentation="none")
NAME = "logit-adjusted loss"
KEYED = f"{NAME} and logistic regression, or that alone"
"""What the key of a run names: a run of an earlier rule is not taken for one of this."""
ON = "a fixed rule: the backbone was trained on these rows"
"""What results say it was chosen on."""
ON_UNFITTED = "a fixed rule with one penalty by cross-validation: the backbone was trained on these rows"
SEEDS = 3
"""The classifiers of this many seeds are averaged: on classes of a few rows one seed differs from the next by points."""
LOGISTIC = candidates.Logistic(0.003)
"""The logistic regression, logit-adjusted, that is half of the rule."""
FITTED = 0.8
"""Share of the training rows that the head must be right on for them to count as fitted. It was .88 and more on backbones
trained to their end, .48 to .65 on those of some ten or twenty epochs."""
PENALTIES = tuple(candidates.Logistic(strength) for strength in (0.0003, 0.001, 0.003, 0.01))
"""The penalties that are chosen from where rows are not fitted."""
BLOCK_VALUES = 1 << 24
"""Probabilities that are compared, 64 MiB. Of more rows every so many-th is taken."""


def by_the_rule(settings: Settings) -> Settings:
    """These settings with the rule's head at its defaults, in standardised columns whatever a config says of other heads."""
    return settings.model_copy(update={"retrain": RULE, "coordinates": "standard"})


def seeds_from(seed: int) -> list[int]:
    """The seeds whose classifiers are averaged."""
    return [seed + offset for offset in range(SEEDS)]


def averaged(classifier: Classifier, counts_C: Tensor) -> Classifier:
    """The mean of the replicas as one classifier. Classes without training rows are never predicted."""
    weight_CD, bias_C = classifier.weight_RCD.mean(dim=0), classifier.bias_RC.mean(dim=0)
    bias_C = torch.where(counts_C > 0, bias_C, -torch.inf)
    weight_CD = torch.where((counts_C > 0)[:, None], weight_CD, 0.0)
    selection = Selection(on=ON, members={NAME: 1.0})
    return replace(classifier, weight_RCD=weight_CD[None], bias_RC=bias_C[None], selection=selection)


def completed(classifier: Classifier, train: Features, seed: int = 0) -> Classifier:
    """The rule, from its trained head: the mean of the head and of LOGISTIC.

    The classifier's logits are divided by the temperature that brings them nearest to LOGISTIC's. Where it is right on less
    than FITTED of the rows, logistic regression alone, with the likeliest of PENALTIES; `seed` deals the folds. The classifier
    alone where there are more rows, columns and classes than logistic regression is fitted to.
    """
    (weight_CD,), (bias_C,) = classifier.weight_RCD, classifier.bias_RC
    classes = len(bias_C)
    if len(train.labels_N) * train.width * classes > 4 * WORK:
        return classifier
    features_ND, present_K = clean(train), train.counts_C > 0
    stride = -(-len(features_ND) * classes // BLOCK_VALUES)
    rows_BD, labels_B = features_ND[::stride], train.labels_N[::stride]
    if float((classifier.logits(rows_BD)[0].argmax(dim=1) == labels_B).double().mean()) < FITTED:
        return _chosen(classifier, features_ND, train.labels_N, seed)
    other_CD, other_C = candidates.fit(LOGISTIC, features_ND, train.labels_N, classes)
    scores_BK, other_BK = (
        (rows_BD.double() @ weight.double().T + bias.double())[:, present_K].float()
        for weight, bias in ((weight_CD, bias_C), (other_CD, other_C))
    )
    temperature = likest_temperature(scores_BK, other_BK.softmax(dim=1))
    return replace(
        classifier,
        weight_RCD=(classifier.weight_RCD / temperature + other_CD) / 2,
        bias_RC=(classifier.bias_RC / temperature + other_C) / 2,
        selection=Selection(on=ON, members={NAME: 0.5, candidates.name(LOGISTIC): 0.5}),
    )


def _chosen(classifier: Classifier, features_ND: Tensor, labels_N: Tensor, seed: int) -> Classifier:
    """Logistic regression with the likeliest penalty in the place of the classifier; that, where no row can be held out."""
    classes = classifier.bias_RC.shape[1]
    arm, choice, _ = likeliest(PENALTIES, features_ND, labels_N, classes, "balanced", seed)
    if choice is None:
        return classifier
    temperature = choice.scores[choice.arm].temperature
    weight_CD, bias_C = (part / temperature for part in candidates.fit(arm, features_ND, labels_N, classes))
    selection = Selection(on=ON_UNFITTED, members={choice.arm: 1.0})
    return replace(classifier, weight_RCD=weight_CD[None], bias_RC=bias_C[None], selection=selection)


def likest_temperature(scores_BC: Tensor, probabilities_BC: Tensor) -> float:
    """T of the least mean KL(p || softmax(z / T)) over rows, scores z and probabilities p (B, C). Between 1/50 and 50.

    The divergence has one minimum in 1 / T. With labels in the place of p this is temperature scaling (Guo et al., 2017).
    """

    def divergence(log_t: float) -> float:
        log_BC = (scores_BC / math.exp(log_t)).log_softmax(dim=1)
        return -float((probabilities_BC * log_BC).sum(dim=1).mean())

    bounds = (-math.log(50), math.log(50))
    return math.exp(minimize_scalar(divergence, bounds=bounds, method="bounded", options={"xatol": 1e-3}).x)
