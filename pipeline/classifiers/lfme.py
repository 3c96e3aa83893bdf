"""LFME on features: an expert for each of the many, medium and few classes teaches one classifier, less and less."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.augment.kinds import UNCHANGED
from pipeline.classifiers import budget, linear
from pipeline.classifiers.linear import LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.replicas import train_heads
from pipeline.classifiers.step import Step, StepLoss
from pipeline.classifiers.trained import Training, weights_and_bias
from pipeline.classifiers.weighted import cross_entropies
from pipeline.features import Features
from pipeline.longtail import group_limits, shot_groups

DISTILLATION_TEMPERATURE = 2.0
"""Of both softmaxes in the distillation."""
FREE = 0.3
"""Below this share of an expert's accuracy a student is taught with full weight."""
FLOORS = {"few": 1.0, "medium": 12 / 53, "many": 12 / 230}
"""The least that a logit of a hard row is multiplied by at first, by group: the code's constants for ImageNet-LT."""


@dataclass
class Expert:
    """The linear classifiers of one group, for its G classes alone, and how right they are on their training rows."""

    classes_G: Tensor
    heads: LinearHeads
    accuracy_R: Tensor


def distillation(logits_RBG: Tensor, taught_RBG: Tensor) -> Tensor:
    """KL(expert || student) at temperature T, mean over the batch, (R,) (Xiang et al., 2020, Eq. 2): as the authors' code has
    it, not multiplied by T^2."""
    student_RBG = (logits_RBG / DISTILLATION_TEMPERATURE).log_softmax(dim=2)
    expert_RBG = (taught_RBG / DISTILLATION_TEMPERATURE).log_softmax(dim=2)
    divergence_RB = (expert_RBG.exp() * (expert_RBG - student_RBG)).sum(dim=2)
    return divergence_RB.mean(dim=1)


def teaching(student_R: Tensor, expert_R: Tensor) -> Tensor:
    """How much an expert still teaches, (R,): 1 below 0.3 of its accuracy, then what is left of the gap, at least 0 (Eq. 3)."""
    left_R = (expert_R - student_R) / (expert_R * (1 - FREE)).clamp(min=1e-6)
    return torch.where(student_R < FREE * expert_R, torch.ones_like(left_R), left_R.clamp(min=0.0))


def selection(confidence_RB: Tensor, labels_RB: Tensor, bounds_2RC: Tensor, floor_C: Tensor) -> Tensor:
    """The experts' confidence of each row, scaled from its group's floor to 1, (R, B) (Eq. 5).

    `bounds_2RC` holds the least and the greatest confidence among the training rows of each class.
    """
    least_RB, greatest_RB = (bound_RC.gather(1, labels_RB) for bound_RC in bounds_2RC)
    share_RB = ((confidence_RB - least_RB) / (greatest_RB - least_RB).clamp(min=1e-6)).clamp(0.0, 1.0)
    share_RB = torch.where(greatest_RB > least_RB, share_RB, 1.0)
    floor_RB = floor_C[labels_RB]
    return floor_RB + (1 - floor_RB) * share_RB


def fit_experts(problem: Problem) -> list[Expert]:
    """One linear classifier a group and a seed, cross entropy on the group's rows as they are, for as many steps."""
    train, settings = problem.train, problem.settings.model_copy(update={"sampling": "instance"})
    counts = train.counts_C.tolist()
    experts = []
    for classes in shot_groups(counts, *group_limits(counts)).values():
        position_C = torch.full((len(counts),), -1)
        position_C[classes] = torch.arange(len(classes))
        members_N = (position_C[train.labels_N] >= 0).nonzero()[:, 0]
        if len(classes) < 2 or len(members_N) == 0:
            continue
        chosen = train.select(members_N)
        rows = replace(chosen, labels_N=position_C[chosen.labels_N], counts_C=train.counts_C[classes])
        heads = linear.fresh(len(classes), train.width, problem.seeds)
        steps = budget.steps_of(settings, len(members_N))
        trained = weights_and_bias(heads, settings)
        train_heads(rows, heads, trained, _plain, [settings], problem.seeds, UNCHANGED, steps, "expert")
        experts.append(Expert(torch.tensor(classes), heads, _accuracy(heads, rows)))
    return experts


def _plain(heads: LinearHeads, step: Step) -> Tensor:
    return cross_entropies(heads.logits(step.inputs_RBD), step.labels_RB).mean(dim=1).sum()


@torch.no_grad()
def _accuracy(heads: LinearHeads, rows: Features) -> Tensor:
    """Share of clean rows that each replica has right, each class counting alike, (R,)."""
    right_RC = torch.zeros(heads.replicas, len(rows.counts_C))
    for rows_B in rows.blocks():
        inputs_BD, labels_B = rows.gather(0, rows_B), rows.labels_N[rows_B]
        hit_RB = heads.logits(inputs_BD.expand(heads.replicas, *inputs_BD.shape)).argmax(dim=2) == labels_B
        right_RC.index_add_(1, labels_B, hit_RB.float())
    there_C = rows.counts_C > 0
    return (right_RC[:, there_C] / rows.counts_C[there_C]).mean(dim=1)


def objective(problem: Problem) -> StepLoss:
    """Cross entropy of w z + the experts' distillation, each weighted by what the student has still to learn of its group.

    w rises from the row's selection to 1 at half of the steps. A student's accuracy is among all classes, an expert's among
    those of its group. Both are of training rows, once an epoch; the authors' code takes them on the validation split.
    """
    train = problem.train
    experts = fit_experts(problem)
    groups = [train.select(torch.isin(train.labels_N, expert.classes_G).nonzero()[:, 0]) for expert in experts]
    counts = train.counts_C.tolist()
    floor_C = torch.ones(problem.classes)
    for group, classes in shot_groups(counts, *group_limits(counts)).items():
        floor_C[classes] = FLOORS[group]
    bounds_2RC = _bounds(experts, train, len(problem.seeds))
    an_epoch = -(-len(train.labels_N) // problem.settings.batch_size)
    weight_GR: list[Tensor] = []

    def loss(heads: LinearHeads, step: Step) -> Tensor:
        if step.number % an_epoch == 0:
            weight_GR[:] = [
                teaching(_accuracy(heads, rows), expert.accuracy_R)
                for rows, expert in zip(groups, experts, strict=True)
            ]
        logits_RBC = heads.logits(step.inputs_RBD)
        confidence_RB = _confidence(experts, step.inputs_RBD, step.labels_RB)
        easy_RB = selection(confidence_RB, step.labels_RB, bounds_2RC, floor_C)
        grown_RB = easy_RB + (1 - easy_RB) * min(1.0, 2 * step.progress)
        told = cross_entropies(grown_RB[..., None] * logits_RBC, step.labels_RB).mean(dim=1)
        for expert, weight_R in zip(experts, weight_GR, strict=True):
            taught_RBG = expert.heads.logits(step.inputs_RBD)
            told = told + weight_R * distillation(logits_RBC[..., expert.classes_G], taught_RBG)
        return told.sum()

    return loss


@torch.no_grad()
def _bounds(experts: list[Expert], train: Features, replicas: int) -> Tensor:
    """The least and the greatest confidence in each class's clean rows, (2, R, C)."""
    least_RC = torch.full((replicas, len(train.counts_C)), torch.inf)
    greatest_RC = torch.full_like(least_RC, -torch.inf)
    for rows_B in train.blocks():
        inputs_BD, labels_B = train.gather(0, rows_B), train.labels_N[rows_B]
        labels_RB = labels_B.expand(replicas, -1)
        confidence_RB = _confidence(experts, inputs_BD.expand(replicas, *inputs_BD.shape), labels_RB)
        least_RC.scatter_reduce_(1, labels_RB, confidence_RB, "amin")
        greatest_RC.scatter_reduce_(1, labels_RB, confidence_RB, "amax")
    return torch.stack([least_RC, greatest_RC])


def _confidence(experts: list[Expert], inputs_RBD: Tensor, labels_RB: Tensor) -> Tensor:
    """What the expert of each row's group gives its true class, (R, B); 1 where no expert knows it."""
    confidence_RB = torch.ones(labels_RB.shape)
    for expert in experts:
        share_RBG = expert.heads.logits(inputs_RBD).softmax(dim=2)
        matches_RBG = labels_RB[..., None] == expert.classes_G
        confidence_RB = torch.where(matches_RBG.any(dim=2), (share_RBG * matches_RBG).sum(dim=2), confidence_RB)
    return confidence_RB


LFME = Training(weights_and_bias, objective=objective)
"""Xiang et al., Learning From Multiple Experts (2020), on features: the published form trains three backbones and a fourth."""
