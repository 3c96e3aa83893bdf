"""MARC: two numbers a class that move the margins of a fixed classifier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline import losses
from pipeline.classifiers.linear import Classifier, LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.step import Loss
from pipeline.classifiers.trained import Training
from pipeline.classifiers.weighted import weighted
from pipeline.settings.stage3 import Retrain


@dataclass
class MarginHeads:
    """a_c (w_c x + b_c) + s_c |w_c| on fixed linear heads: scale a (R, C), shift s (R, C)."""

    fixed: LinearHeads
    scale_RC: Tensor
    shift_RC: Tensor

    @property
    def replicas(self) -> int:
        return self.fixed.replicas

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        norms_RC = self.fixed.weight_RCD.norm(dim=2)
        return self.scale_RC[:, None] * self.fixed.logits(features_RBD) + (self.shift_RC * norms_RC)[:, None]


def begin(_problem: Problem, start: LinearHeads) -> MarginHeads:
    """a = 1 and s = 0: the classifier as it is."""
    return MarginHeads(start, torch.ones_like(start.bias_RC), torch.zeros_like(start.bias_RC))


def tensors(heads: MarginHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    return [(heads.scale_RC, 1.0), (heads.shift_RC, 1.0)]


def finish(heads: MarginHeads, _problem: Problem) -> Classifier:
    """The same as weight (R, C, D) and bias (R, C)."""
    weight_RCD, bias_RC = heads.fixed.folded()
    shift_RC = heads.shift_RC * heads.fixed.weight_RCD.norm(dim=2)
    return Classifier(weight_RCD * heads.scale_RC[..., None], bias_RC * heads.scale_RC + shift_RC)


def reweighted(settings: Retrain, counts_C: Tensor) -> Loss:
    """Cross entropy weighted by n_c^-1.2 (the loss of DisAlign, which MARC's code takes over), for rows sampled as they are."""
    return weighted(losses.reweighted(counts_C, settings.reweight_power))


MARC = Training(tensors, reweighted, wants_trained=True, begin=begin, finish=finish)
"""Wang et al., Margin Calibration for Long-Tailed Visual Recognition (2022), Eq. 7."""
