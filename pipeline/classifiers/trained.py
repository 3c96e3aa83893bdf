"""Heads that are trained step by step: what each trains and the loss it minimises."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers import budget, linear
from pipeline.classifiers.linear import Classifier, LinearHeads
from pipeline.classifiers.post_hoc import logit_adjustment
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.replicas import LOSS_SETTINGS, train_heads
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.step import Heads, Loss, StepLoss, of_logits
from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.settings import register
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage3 import PRIOR_AWARE, Retrain

VECTOR = 16
"""Numbers that a processor's widest instruction takes at a time, float32."""


def folded(heads: LinearHeads, _problem: Problem) -> Classifier:
    """Linear heads as plain weights and biases."""
    return Classifier(*heads.folded())


@dataclass(frozen=True)
class Training:
    """What a trained head changes and what it minimises."""

    tensors: Callable[[Any, Retrain], list[tuple[Tensor, float]]]
    """The tensors of its heads that are trained, each with its share of the learning rate."""
    loss: Callable[[Retrain, Tensor], Loss] | None = None
    """(settings, training counts (C,)) -> the loss, where logits and labels suffice."""
    wants_trained: bool = False
    """Whether it adjusts a classifier: on a fresh one it would have nothing to adjust."""
    objective: Callable[[Problem], StepLoss] | None = None
    """The loss where more is needed: features, weights, how far training is."""
    begin: Callable[[Problem, LinearHeads], Any] = lambda _problem, start: start
    """The heads that are trained, from the linear ones that training starts from."""
    finish: Callable[[Any, Problem], Classifier | Scored] = folded
    """What is saved of them."""
    prepare: Callable[[Problem], Problem] = lambda problem: problem
    """The problem with rows set aside, for heads that learn from some in another way."""

    @property
    def of_logits_alone(self) -> bool:
        """Whether it trains linear classifiers by a loss that reads logits and labels: such ones may be trained side by side."""
        return self.objective is None and self.finish is folded


def weights_and_bias(heads: LinearHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    """cRT (Kang et al., 2020): the linear classifier itself."""
    return [(heads.weight_RCD, 1.0), (heads.bias_RC, 1.0)]


def scales(heads: LinearHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    """LWS (Kang et al., 2020): one scale a class on a fixed classifier."""
    return [(heads.scale_RC, 1.0)]


def scales_first(heads: LinearHeads, settings: Retrain) -> list[tuple[Tensor, float]]:
    """MiSLAS's generalised classifier (Zhong et al., 2021): the scales, and the classifier at a lower rate."""
    factor = settings.classifier_factor
    return [(heads.weight_RCD, factor), (heads.bias_RC, factor), (heads.scale_RC, 1.0)]


def cross_entropy(_settings: Retrain, _counts_C: Tensor) -> Loss:
    """The paper's Eq. 5."""

    def loss(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
        replicas, _, classes = logits_RBC.shape
        if classes < VECTOR:
            # The softmax then runs across the batch: along so few classes it would go value by value.
            return replicas * functional.cross_entropy(logits_RBC.transpose(1, 2), labels_RB)
        return replicas * functional.cross_entropy(logits_RBC.flatten(0, 1), labels_RB.flatten())

    return loss


def label_aware(settings: Retrain, counts_C: Tensor) -> Loss:
    """MiSLAS's label-aware smoothing (Zhong et al., 2021, Eq. 5)."""
    smoothing_C = losses.smoothing_by_class(counts_C, settings.smoothing_head, settings.smoothing_tail)

    def loss(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
        logits, labels = logits_RBC.flatten(0, 1), labels_RB.flatten()
        return len(logits_RBC) * losses.label_aware_smoothing(logits, labels, smoothing_C)

    return loss


def under_the_prior(settings: Retrain, counts_C: Tensor) -> Loss:
    """Cross entropy on z + tau log prior (Menon et al., 2021, Eq. 10), for rows sampled as they are."""
    plain = cross_entropy(settings, counts_C)
    shift_C = settings.number("tau") * torch.log(counts_C.clamp(min=1) / counts_C.clamp(min=1).sum())
    return lambda logits_RBC, labels_RB: plain(logits_RBC + shift_C, labels_RB)


def head(training: Training) -> Callable[[Problem], Classifier | Scored]:
    """A row of the register: from the settings' start, trained with the settings' augmentation, one replica a seed."""

    def fit(problem: Problem) -> Classifier | Scored:
        prepared = training.prepare(problem)
        classifier = training.finish(_fit(prepared, training), _a_seed_a_replica(prepared))
        return replace(classifier, prior_power=prior_power(problem.settings))

    return fit


def prior_power(settings: Retrain) -> float:
    """As in `Classifier`: rows sampled as they are teach their own prior, less what the loss takes off."""
    if settings.head in PRIOR_AWARE:
        return 1 - settings.number("tau") if "retrain.tau" in register.HEADS[settings.head].uses else 0.0
    return 0.0 if settings.sampled == "balanced" else 1.0


FIRST = Training(weights_and_bias, cross_entropy)
"""What a fresh classifier is trained with before a head adjusts it."""
LWS = Training(scales, cross_entropy, wants_trained=True)
GENERALIZED = Training(scales_first, label_aware, wants_trained=True)


def _fit(problem: Problem, training: Training) -> Any:
    settings = problem.settings
    start = _start(problem, settings)
    if _starts_fresh(problem) and training.wants_trained:
        start = linear.from_classifiers(*_fit(problem, FIRST).folded())
    steps = budget.steps_of(settings, len(problem.train.labels_N))
    if not settings.epochs and not settings.steps and problem.unseen:
        steps = _searched(problem, start, training) or steps
    return _trained(problem, problem.train, start, training, steps)


def _searched(problem: Problem, start: LinearHeads, training: Training) -> int | None:
    """The steps that did best on held-out rows, for all rows; None where too few rows can be held out."""
    parts = budget.split(problem.train, problem.seeds[0])
    if parts is None:
        return None
    fit, held_out = parts
    search = budget.Search(held_out)
    begun = linear.LinearHeads(start.weight_RCD.clone(), start.bias_RC.clone(), start.scale_RC.clone())
    _trained(
        replace(problem, train=fit), fit, begun, training, budget.ceiling(problem.settings, len(fit.labels_N)), search
    )
    return budget.scaled(search.best_step, len(fit.labels_N), len(problem.train.labels_N))


def _trained(
    problem: Problem,
    rows: Features,
    start: LinearHeads,
    training: Training,
    steps: int,
    go_on: Callable[[int, Heads], bool] | None = None,
) -> Any:
    variants, wide = problem.side_by_side, _a_seed_a_replica(problem)
    heads = training.begin(wide, start)
    tensors = training.tensors(heads, problem.settings)
    objective = _objective(training, wide, variants)
    name = stage3_method(problem.settings)
    return train_heads(
        rows, heads, tensors, objective, variants, problem.seeds, problem.augmentation, steps, name, go_on
    )


def _a_seed_a_replica(problem: Problem) -> Problem:
    """With as many seeds as replicas are trained: those of the first variant, of the second …"""
    return replace(problem, seeds=[*problem.seeds] * len(problem.side_by_side))


def _objective(training: Training, problem: Problem, variants: Sequence[Retrain]) -> StepLoss:
    if training.objective is not None:
        return training.objective(problem)
    assert training.loss is not None
    return of_logits(_loss_of_each(training.loss, variants, problem.train.counts_C))


def _loss_of_each(loss_of: Callable[[Retrain, Tensor], Loss], variants: Sequence[Retrain], counts_C: Tensor) -> Loss:
    """The loss of all replicas; variants whose loss differs get their own, on their part of the replicas."""
    first = variants[0]
    if all(getattr(variant, name) == getattr(first, name) for variant in variants for name in LOSS_SETTINGS):
        return loss_of(first, counts_C)
    losses_V = [loss_of(variant, counts_C) for variant in variants]

    def loss(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
        parts = zip(losses_V, logits_RBC.chunk(len(losses_V)), labels_RB.chunk(len(losses_V)), strict=True)
        return torch.stack([part(logits, labels) for part, logits, labels in parts]).sum()

    return loss


def _starts_fresh(problem: Problem) -> bool:
    return problem.settings.start == "fresh" or (problem.settings.start == "auto" and problem.stage1 is None)


def _start(problem: Problem, settings: Retrain) -> LinearHeads:
    if _starts_fresh(problem):
        return linear.fresh(problem.classes, problem.train.width, [*problem.seeds] * len(problem.side_by_side))
    weight_CD, bias_C = problem.stage1_classifier(f"retrain.start={settings.start}", "use --set retrain.start=fresh")
    if settings.start == "adjusted" and problem.corrected:
        raise DataError(
            f"retrain.start=adjusted: the stage-1 classifier of {problem.origin} was trained with the prior in its loss, and "
            "adjusting it would correct it again; use --set retrain.start=stage1"
        )
    if settings.start == "adjusted" or (settings.start == "auto" and not problem.corrected):
        bias_C = logit_adjustment(bias_C, problem.train.counts_C)
    return linear.from_classifier(weight_CD, bias_C, len(problem.side_by_side) * len(problem.seeds))
