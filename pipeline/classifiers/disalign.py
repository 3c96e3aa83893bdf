"""DisAlign: two numbers a class that adjust a fixed classifier's logits, as far as a learnt confidence of each row lets them."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.linear import LinearHeads
from pipeline.classifiers.marc import reweighted
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.trained import Training
from pipeline.rng import generator, sampled
from pipeline.settings.stage3 import Retrain


@dataclass
class AlignedHeads:
    """s(x) (a_c z_c + b_c) + (1 - s(x)) z_c of fixed logits z, s(x) = sigmoid(v x + u): a, b (R, C), v (R, D), u (R, 1)."""

    fixed: LinearHeads
    scale_RC: Tensor
    shift_RC: Tensor
    direction_RD: Tensor
    offset_R1: Tensor

    @property
    def replicas(self) -> int:
        return self.fixed.replicas

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        logits_RBC = self.fixed.logits(features_RBD)
        confidence_RB1 = torch.sigmoid(features_RBD @ self.direction_RD[..., None] + self.offset_R1[:, None])
        aligned_RBC = self.scale_RC[:, None] * logits_RBC + self.shift_RC[:, None]
        return confidence_RB1 * aligned_RBC + (1 - confidence_RB1) * logits_RBC


def begin(problem: Problem, start: LinearHeads) -> AlignedHeads:
    """a = 1, b = 0, and a confidence that is drawn as torch.nn.Linear starts."""
    width = problem.train.width
    sources = [generator(seed, "retrain", "confidence") for seed in problem.seeds]
    drawn = [sampled(torch.rand, width + 1, generator=source) for source in sources]
    values = (2 * torch.stack(drawn) - 1) / math.sqrt(width)
    ones_RC = torch.ones_like(start.bias_RC)
    return AlignedHeads(
        start, ones_RC, torch.zeros_like(ones_RC), values[:, :-1].contiguous(), values[:, -1:].contiguous()
    )


def tensors(heads: AlignedHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    trained = (heads.scale_RC, heads.shift_RC, heads.direction_RD, heads.offset_R1)
    return [(tensor, 1.0) for tensor in trained]


class Aligned(Architecture):
    """Linear classifiers whose logits are adjusted as far as a confidence lets them; the confidence depends on the row."""

    NAME = "disalign"
    SHAPES: ClassVar = {
        "weight": "RCD",
        "bias": "RC",
        "logit_scale": "RC",
        "logit_shift": "RC",
        "confidence_weight": "RD",
        "confidence_bias": "R1",
    }

    def scores(self, inputs_BD: Tensor) -> Tensor:
        weight_RCD, bias_RC, *aligned = (getattr(self, name) for name in self.SHAPES)
        heads = AlignedHeads(LinearHeads(weight_RCD, bias_RC, torch.ones_like(bias_RC)), *aligned)
        return heads.logits(inputs_BD[None].expand(heads.replicas, -1, -1))


def finish(heads: AlignedHeads, problem: Problem) -> Scored:
    weight_RCD, bias_RC = heads.fixed.folded()
    parts = (weight_RCD, bias_RC, heads.scale_RC, heads.shift_RC, heads.direction_RD, heads.offset_R1)
    tensors = dict(zip(Aligned.SHAPES, parts, strict=True))
    return Scored(Aligned.on_these(tensors, problem.train.width))


DISALIGN = Training(tensors, reweighted, wants_trained=True, begin=begin, finish=finish)
"""Zhang et al., Distribution Alignment (2021), Eq. 5 to 9. Its code: weights n_c^-1.2, SGD 0.1, cosine, batch 256, 10 epochs.
It writes (1 + s(x) a) z + s(x) b, which is this with a - 1 for a, and starts from a = 1 there and confidence weights of 0.1; here
training starts from the classifier as it is."""
