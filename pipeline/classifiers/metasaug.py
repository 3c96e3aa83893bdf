"""MetaSAug: ISDA whose covariances first take one step towards what serves a balanced set."""

from dataclasses import replace

import torch
from torch import Tensor

from pipeline import losses
from pipeline.classifiers import budget
from pipeline.classifiers.isda import RunningCovariances, augmented_logits
from pipeline.classifiers.linear import LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Step, StepLoss, weighted_mean
from pipeline.classifiers.trained import Training, weights_and_bias
from pipeline.classifiers.weighted import cross_entropies
from pipeline.rng import generator
from pipeline.samplers import RowSampler


def prepare(problem: Problem) -> Problem:
    """With the balanced set as `val`: the `val` split where there is one, else training rows that are then not trained on.

    Where too few can be held out, the training rows themselves, as the authors' code has it for iNaturalist. Never test rows.
    """
    if problem.val is not None:
        return problem
    train, meta = budget.split(problem.train, problem.seeds[0]) or (problem.train, problem.train)
    return replace(problem, train=train, val=meta)


def objective(problem: Problem) -> StepLoss:
    """One step of plain descent on the training loss is tried; the meta loss after it moves the covariances by `meta_rate`.

    The training loss then uses the moved covariances. The running ones take the batch in afterwards and are not moved
    themselves: the order of the authors' code. Meta batches are class-balanced.
    """
    settings, meta = problem.settings, problem.val
    assert meta is not None
    covariances = RunningCovariances(len(problem.seeds), problem.classes, problem.train.width)
    weight_C = losses.class_balanced(problem.train.counts_C, settings.reweight_beta)
    sampler = RowSampler(meta.labels_N)
    sources = [generator(seed, "retrain", "meta") for seed in problem.seeds]
    variants = problem.side_by_side
    rates = torch.tensor([variant.learning_rate for variant in variants])
    rate_R = rates.repeat_interleave(len(problem.seeds) // len(variants))

    def training_loss(heads: LinearHeads, step: Step, covariance_RCD: Tensor) -> Tensor:
        ratio = settings.semantic_strength * step.progress
        logits_RBC = heads.logits(step.inputs_RBD)
        moved_RBC = augmented_logits(logits_RBC, step.labels_RB, heads.weight_RCD, covariance_RCD, ratio)
        return weighted_mean(cross_entropies(moved_RBC, step.labels_RB), weight_C[step.labels_RB])

    def loss(heads: LinearHeads, step: Step) -> Tensor:
        rows_RM = torch.stack([sampler.draw((settings.batch_size,), source) for source in sources])
        covariance_RCD = covariances.covariance.clone().requires_grad_(True)
        tried = training_loss(heads, step, covariance_RCD)
        weight, bias = torch.autograd.grad(tried, (heads.weight_RCD, heads.bias_RC), create_graph=True)
        after = LinearHeads(
            heads.weight_RCD - rate_R[:, None, None] * weight, heads.bias_RC - rate_R[:, None] * bias, heads.scale_RC
        )
        meta_loss = cross_entropies(after.logits(meta.gather(0, rows_RM)), meta.labels_N[rows_RM]).mean(dim=1).sum()
        # Without progress the spread has no weight yet, and so the covariances no gradient.
        (gradient,) = torch.autograd.grad(meta_loss, covariance_RCD, allow_unused=True)
        moved_RCD = covariance_RCD.detach() - settings.meta_rate * (0.0 if gradient is None else gradient)
        loss_of_step = training_loss(heads, step, moved_RCD)
        covariances.update(step.inputs_RBD, step.labels_RB)
        return loss_of_step

    return loss


METASAUG = Training(weights_and_bias, objective=objective, prepare=prepare)
"""Li et al., MetaSAug (2021), Algorithm 1 in the form of its ImageNet code, which trains the classifier alone: SGD 3e-4, batch
256, 20 epochs, meta rate 0.1, r0 = 0.25, class weights of b = 0.9999, diagonal covariances, the validation split as meta set."""
