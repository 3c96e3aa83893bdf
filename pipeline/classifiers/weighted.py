"""Losses of logits and labels that linear heads are trained with: weights by class or by difficulty, and balanced softmax."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.classifiers.step import Loss, weighted_mean
from pipeline.settings.stage3 import Retrain


def cross_entropies(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
    """Each row's cross entropy, (R, B)."""
    rows = functional.cross_entropy(logits_RBC.flatten(0, 1), labels_RB.flatten(), reduction="none")
    return rows.view_as(labels_RB)


def weighted(weight_C: Tensor) -> Loss:
    """Cross entropy with a weight a class, as a weighted mean over the batch."""
    return lambda logits_RBC, labels_RB: weighted_mean(cross_entropies(logits_RBC, labels_RB), weight_C[labels_RB])


def balanced_softmax(_settings: Retrain, counts_C: Tensor) -> Loss:
    """Softmax weighted by the class counts (Ren et al., Balanced Meta-Softmax, 2020, Eq. 3), for rows sampled as they are."""
    shift_C = torch.log(counts_C.clamp(min=1).float())
    return lambda logits_RBC, labels_RB: cross_entropies(logits_RBC + shift_C, labels_RB).mean(dim=1).sum()


def class_balanced(settings: Retrain, counts_C: Tensor) -> Loss:
    """Cross entropy weighted by (1 - b) / (1 - b^n_c) (Cui et al., Class-Balanced Loss, 2019, Eq. 2; b = 0.9999 in its code)."""
    return weighted(losses.class_balanced(counts_C, settings.reweight_beta))


def focal(settings: Retrain, _counts_C: Tensor) -> Loss:
    """(1 - p_y)^g cross entropy (Lin et al., Focal Loss, 2017, Eq. 4; g = 1 in the code of LDAM, 2 for detection)."""

    def loss(logits_RBC: Tensor, labels_RB: Tensor) -> Tensor:
        rows = losses.focal(logits_RBC.flatten(0, 1), labels_RB.flatten(), settings.focal_gamma)
        return len(logits_RBC) * rows

    return loss
