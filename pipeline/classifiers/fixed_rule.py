"""What `auto` is where no rows can tell one arm from another: on features of a backbone that was trained on these rows. Pure.

A backbone is right on nearly all rows it was trained on, so held-out ones among them say nothing of new rows. The rule is a
trained head, the logit-adjusted loss from the stage-1 classifier on. Its few epochs do not fit the tail's rows as closely as
heads that are solved to the end. RESULTS.md has its figures, and says on which of them it was picked.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Selection
from pipeline.settings import Retrain, Settings

RULE = Retrain(head="logit-adjusted", augmentation="none")
NAME = "logit-adjusted loss"
SEEDS = 3
"""The classifiers of this many seeds are averaged: on classes of a few rows one seed differs from the next by points."""


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
    selection = Selection(on="a fixed rule: the backbone was trained on these rows", members={NAME: 1.0})
    return replace(classifier, weight_RCD=weight_CD[None], bias_RC=bias_C[None], selection=selection)
