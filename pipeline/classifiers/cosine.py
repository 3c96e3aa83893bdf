"""Cosine classifiers: LDAM's margins, GCL's clouds. Both are saved as the linear classifier that decides as they do."""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers.linear import Classifier, LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Step, StepLoss, weighted_mean
from pipeline.classifiers.trained import Training
from pipeline.classifiers.weighted import cross_entropies
from pipeline.rng import generator, sampled
from pipeline.settings.stage3 import Retrain


@dataclass
class CosineHeads:
    """scale * cos(w_c, x) of R replicas: weight (R, C, D)."""

    weight_RCD: Tensor
    scale: float

    @property
    def replicas(self) -> int:
        return len(self.weight_RCD)

    def cosines(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        unit_RBD, unit_RCD = functional.normalize(features_RBD, dim=2), functional.normalize(self.weight_RCD, dim=2)
        return unit_RBD @ unit_RCD.transpose(1, 2)

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        return self.scale * self.cosines(features_RBD)


def begin(problem: Problem, start: LinearHeads) -> CosineHeads:
    """From the directions of the starting classifier's weights; its bias is dropped."""
    return CosineHeads(functional.normalize(start.weight_RCD, dim=2), problem.settings.cosine_scale)


def tensors(heads: CosineHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    return [(heads.weight_RCD, 1.0)]


def finish(heads: CosineHeads, problem: Problem) -> Classifier:
    """Weight (R, C, D) of the same decisions: scale / mean |x| * w_c / |w_c|, as confident for a row of that norm; no bias."""
    train = problem.train
    norms = [train.gather(0, rows_B).norm(dim=1) for rows_B in train.blocks()]
    mean = float(torch.cat(norms).double().mean())
    weight_RCD = functional.normalize(heads.weight_RCD, dim=2) * (heads.scale / max(mean, 1e-12))
    return Classifier(weight_RCD, torch.zeros(weight_RCD.shape[:2]))


def ldam(problem: Problem) -> StepLoss:
    """Margins n_c^-1/4, class weights in the last fifth (Cao et al., LDAM-DRW, 2019, Eq. 12 and 13, Algorithm 1).

    Margin 0.5, scale 30, b = 0.9999, weights from epoch 160 of 200: the authors' code.
    """
    settings = problem.settings
    margins_C = losses.ldam_margins(problem.train.counts_C, settings.margin)
    weight_C = losses.class_balanced(problem.train.counts_C, settings.reweight_beta)

    def objective(heads: CosineHeads, step: Step) -> Tensor:
        cosines_BC, labels_B = heads.cosines(step.inputs_RBD).flatten(0, 1), step.labels_RB.flatten()
        loss_B = losses.ldam(cosines_BC, labels_B, margins_C, heads.scale, reduction="none")
        loss_RB = loss_B.view_as(step.labels_RB)
        deferred = step.progress < settings.reweight_start
        return loss_RB.mean(dim=1).sum() if deferred else weighted_mean(loss_RB, weight_C[step.labels_RB])

    return objective


def cloud_sizes(counts_C: Tensor) -> Tensor:
    """(log n_max - log n_c) / (log n_max - log n_min), (C,): 0 for the largest class, 1 for the smallest."""
    logs_C = counts_C.clamp(min=1).double().log()
    size_C = logs_C.max() - logs_C
    return (size_C / size_C.max().clamp(min=1e-12)).float()


def gcl(problem: Problem) -> StepLoss:
    """Gaussian-clouded cosines (Li et al., Long-tailed Visual Recognition via Gaussian Clouded Logit Adjustment, 2022).

    As the authors' code has it, every class's cosine is lowered by cloud * min(|N(0, 1/3)|, 1) * its size, the true one by
    the margin too; focal loss of the scaled cosines, whose (1 - p)^g is a weight without a gradient.
    """
    settings = problem.settings
    size_C = cloud_sizes(problem.train.counts_C)
    sources = [generator(seed, "retrain", "cloud") for seed in problem.seeds]

    def objective(heads: CosineHeads, step: Step) -> Tensor:
        cosines_RBC = heads.cosines(step.inputs_RBD)
        noise_RBC = _clouds(cosines_RBC, sources)
        clouded_RBC = cosines_RBC - settings.cloud * noise_RBC * size_C
        true_RBC = functional.one_hot(step.labels_RB, cosines_RBC.shape[2])
        loss_RB = cross_entropies(heads.scale * (clouded_RBC - settings.margin * true_RBC), step.labels_RB)
        focus_RB = (1 - torch.exp(-loss_RB.detach())) ** settings.focal_gamma
        return (focus_RB * loss_RB).mean(dim=1).sum()

    return objective


def _clouds(cosines_RBC: Tensor, sources: list[Generator]) -> Tensor:
    drawn = [sampled(torch.randn, cosines_RBC.shape[1:], generator=source) for source in sources]
    return (torch.stack(drawn) / 3).abs().clamp(max=1.0)


LDAM = Training(tensors, objective=ldam, begin=begin, finish=finish)
GCL = Training(tensors, objective=gcl, begin=begin, finish=finish)
