"""ISDA: cross entropy as if each feature stood for infinitely many around it, spread as its class is."""

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers.linear import LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Step, StepLoss
from pipeline.classifiers.trained import Training, weights_and_bias
from pipeline.errors import ConfigError

LIMIT = 1 << 31
"""Bytes that full covariances may take."""


@dataclass
class RunningCovariances:
    """Mean and covariance of each class over all batches so far, for each of R replicas (Wang et al., 2019, appendix A).

    After any number of batches they are those of all their rows together, biased (1/n).
    """

    replicas: int
    classes: int
    width: int
    full: bool = False
    count_RC: Tensor = field(init=False)
    mean_RCD: Tensor = field(init=False)
    covariance: Tensor = field(init=False)
    """(R, C, D) diagonal, or (R, C, D, D)."""

    def __post_init__(self) -> None:
        self.count_RC = torch.zeros(self.replicas, self.classes)
        self.mean_RCD = torch.zeros(self.replicas, self.classes, self.width)
        self.covariance = torch.zeros(*self.mean_RCD.shape, *([self.width] if self.full else []))

    @torch.no_grad()
    def update(self, features_RBD: Tensor, labels_RB: Tensor) -> None:
        """Take in a batch."""
        cells, shape = self.replicas * self.classes, self.mean_RCD.shape
        offset_R1 = self.classes * torch.arange(self.replicas)[:, None]
        cell_K = (labels_RB + offset_R1).flatten()
        rows_KD = features_RBD.reshape(-1, self.width)
        new_RC = torch.bincount(cell_K, minlength=cells).view(shape[:2]).float()
        sum_RCD = torch.zeros(cells, self.width).index_add_(0, cell_K, rows_KD).view(shape)
        batch_RCD = sum_RCD / new_RC.clamp(min=1)[..., None]
        centred_KD = rows_KD - batch_RCD.view(cells, -1)[cell_K]
        share_RC1 = (new_RC / (new_RC + self.count_RC).clamp(min=1))[..., None]
        moved_RCD = batch_RCD - self.mean_RCD
        share, between = share_RC1, moved_RCD.square()
        products = centred_KD.square()
        if self.full:
            share = share_RC1[..., None]
            between = moved_RCD[..., None] * moved_RCD[..., None, :]
            products = centred_KD[..., None] * centred_KD[..., None, :]
        scatter = torch.zeros(cells, *products.shape[1:]).index_add_(0, cell_K, products)
        within = scatter.view_as(self.covariance) / new_RC.clamp(min=1).view(*shape[:2], *[1] * (scatter.dim() - 1))
        self.covariance = self.covariance * (1 - share) + within * share + share * (1 - share) * between
        self.mean_RCD = self.mean_RCD + share_RC1 * moved_RCD
        self.count_RC += new_RC


def augmented_logits(
    logits_RBC: Tensor, labels_RB: Tensor, weight_RCD: Tensor, covariance: Tensor, ratio: float
) -> Tensor:
    """z_j + ratio/2 (w_j - w_y)' Sigma_y (w_j - w_y), (R, B, C) (Wang et al., 2019, Eq. 7)."""
    if covariance.dim() == weight_RCD.dim():
        return logits_RBC + 0.5 * ratio * losses.semantic_spread(weight_RCD, covariance, labels_RB)
    each = zip(weight_RCD, covariance, labels_RB, strict=True)
    return logits_RBC + 0.5 * ratio * torch.stack([losses.semantic_spread(*replica) for replica in each])


def objective(problem: Problem) -> StepLoss:
    """The covariances take the batch in first, then the loss uses them, r = r0 * share of the training that is done."""
    settings, train = problem.settings, problem.train
    full = settings.covariance == "full"
    size = 4 * len(problem.seeds) * problem.classes * train.width**2
    if full and size > LIMIT:
        raise ConfigError(
            f"retrain.covariance=full: {problem.classes} classes of width {train.width} and {len(problem.seeds)} seeds want "
            f"{size / 2**30:.0f} GiB; set retrain.covariance=diagonal"
        )
    covariances = RunningCovariances(len(problem.seeds), problem.classes, train.width, full)

    def loss(heads: LinearHeads, step: Step) -> Tensor:
        covariances.update(step.inputs_RBD, step.labels_RB)
        ratio = settings.semantic_strength * step.progress
        logits_RBC = augmented_logits(
            heads.logits(step.inputs_RBD), step.labels_RB, heads.weight_RCD, covariances.covariance, ratio
        )
        return len(logits_RBC) * functional.cross_entropy(logits_RBC.flatten(0, 1), step.labels_RB.flatten())

    return loss


ISDA = Training(weights_and_bias, objective=objective)
"""Wang et al., Implicit Semantic Data Augmentation (2019), Eq. 7; r0 = 0.5. The published form trains the backbone with it."""
