"""MaxNorm: a linear classifier whose class weights may not grow beyond a norm, under strong weight decay."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers.linear import Classifier, LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Step, StepLoss
from pipeline.classifiers.trained import Training, weights_and_bias


@dataclass
class BoundedHeads(LinearHeads):
    """Linear heads whose |w_c| is at most a limit a replica, (R, 1)."""

    limit_R1: Tensor

    @torch.no_grad()
    def project(self) -> None:
        """Shorten each class's weight that is longer than the limit."""
        norms_RC = self.weight_RCD.norm(dim=2)
        self.weight_RCD.mul_((self.limit_R1 / norms_RC.clamp(min=1e-12)).clamp(max=1.0)[..., None])


def begin(problem: Problem, start: LinearHeads) -> BoundedHeads:
    """The limit lies a share `max_norm` of the way from the least to the greatest norm that training starts from."""
    norms_RC = start.weight_RCD.norm(dim=2)
    least_R1, greatest_R1 = norms_RC.amin(dim=1, keepdim=True), norms_RC.amax(dim=1, keepdim=True)
    limit_R1 = least_R1 + problem.settings.max_norm * (greatest_R1 - least_R1)
    return BoundedHeads(start.weight_RCD, start.bias_RC, start.scale_RC, limit_R1)


def objective(problem: Problem) -> StepLoss:
    """Binary cross entropy of the softmax, weighted by (1 - b) / (1 - b^n_c): the mean over all B x C entries.

    The class-balanced loss of Cui et al. (2019) as its code and that of weight balancing have it for `softmax`. Weights are
    projected after each epoch, as in that code.
    """
    an_epoch = -(-len(problem.train.labels_N) // problem.settings.batch_size)
    weight_C = losses.class_balanced(problem.train.counts_C, problem.settings.reweight_beta)

    def loss(heads: BoundedHeads, step: Step) -> Tensor:
        if step.number and step.number % an_epoch == 0:
            heads.project()
        probability_RBC = heads.logits(step.inputs_RBD).softmax(dim=2)
        wanted_RBC = functional.one_hot(step.labels_RB, probability_RBC.shape[2]).float()
        entries_RBC = functional.binary_cross_entropy(probability_RBC, wanted_RBC, reduction="none")
        return (weight_C[step.labels_RB][..., None] * entries_RBC).mean(dim=(1, 2)).sum()

    return loss


def finish(heads: BoundedHeads, _problem: Problem) -> Classifier:
    """The weights within the limit."""
    heads.project()
    return Classifier(*heads.folded())


MAX_NORM = Training(weights_and_bias, objective=objective, begin=begin, finish=finish)
"""Alshammari et al., Long-Tailed Recognition via Weight Balancing (2022), Eq. 4 and 5. Its code: SGD 0.01, cosine, 10 epochs,
weight decay 0.1, the limit a tenth of the way up."""
