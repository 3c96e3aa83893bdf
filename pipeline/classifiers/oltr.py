"""OLTR on vectors: a feature is joined by a memory of class centroids, as far as it wants to, and scaled by its reach."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.linear import LinearHeads
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.step import Step, StepLoss
from pipeline.classifiers.trained import Training
from pipeline.classifiers.weighted import cross_entropies
from pipeline.features import Features
from pipeline.rng import generator, sampled
from pipeline.settings.stage3 import Retrain

SCALE = 16.0
"""Of the cosine classifier, as in the authors' code."""
REACH_SCALE = 10.0
"""Reachability is this over the distance to the nearest centroid."""
CENTROID_LOSS, REPEL, MARGIN = 0.01, 0.01, 10.0
"""Weight of the centroids' loss in the whole, of its repelling part in it, and the margin of that part."""
PLAIN = 0.5
"""Share of the steps in which features and the plain classifier are trained, before centroids: 30 of 60 epochs."""


@dataclass
class MemoryHeads:
    """Parameters of R replicas; F is the width of OLTR's features."""

    feature_weight_RFD: Tensor
    feature_bias_RF: Tensor
    plain_weight_RCF: Tensor
    """The plain classifier of the first half; afterwards it says which centroids a feature remembers."""
    plain_bias_RC: Tensor
    selector_weight_RFF: Tensor
    selector_bias_RF: Tensor
    class_weight_RCF: Tensor
    centroids_RCF: Tensor
    with_memory: bool = False

    @property
    def replicas(self) -> int:
        return len(self.plain_bias_RC)

    def parts(self) -> dict[str, Tensor]:
        """The parameters by name, without the suffix of their shape."""
        names = [part.name for part in fields(self) if part.name != "with_memory"]
        return {name.rpartition("_")[0]: getattr(self, name) for name in names}

    def features(self, inputs_RBD: Tensor) -> Tensor:
        """v = relu(fc a), (R, B, F)."""
        return functional.relu(_affine(inputs_RBD, self.feature_weight_RFD, self.feature_bias_RF))

    def plain(self, features_RBF: Tensor) -> Tensor:
        """Logits of the plain classifier, (R, B, C)."""
        return _affine(features_RBF, self.plain_weight_RCF, self.plain_bias_RC)

    def remembered(self, features_RBF: Tensor) -> Tensor:
        """Logits with the memory, (R, B, C): Liu et al. (2019), Eq. 2 to 6. As in their code, centroids get no gradient here."""
        centroids_RCF = self.centroids_RCF.detach()
        share_RBC = self.plain(features_RBF).softmax(dim=2)
        memory_RBF = share_RBC @ centroids_RCF
        wanted_RBF = torch.tanh(_affine(features_RBF, self.selector_weight_RFF, self.selector_bias_RF))
        nearest_RB1 = _distances(features_RBF, centroids_RCF).amin(dim=2, keepdim=True)
        joined_RBF = (REACH_SCALE / nearest_RB1) * (features_RBF + wanted_RBF * memory_RBF)
        squashed_RBF = joined_RBF / (1 + joined_RBF.norm(dim=2, keepdim=True))
        return SCALE * squashed_RBF @ functional.normalize(self.class_weight_RCF, dim=2).transpose(1, 2)

    def logits(self, features_RBD: Tensor) -> Tensor:
        """(R, B, D) -> (R, B, C)."""
        features_RBF = self.features(features_RBD)
        return self.remembered(features_RBF) if self.with_memory else self.plain(features_RBF)


def _affine(inputs_RBD: Tensor, weight_RFD: Tensor, bias_RF: Tensor) -> Tensor:
    return torch.baddbmm(bias_RF[:, None], inputs_RBD, weight_RFD.transpose(1, 2))


def _distances(features_RBF: Tensor, centroids_RCF: Tensor) -> Tensor:
    """Euclidean distances, (R, B, C), at least 1e-3: a feature on a centroid has no unbounded reach."""
    return _squares(features_RBF, centroids_RCF).clamp(min=1e-6).sqrt()


def _squares(features_RBF: Tensor, centroids_RCF: Tensor) -> Tensor:
    """Squared distances (R, B, C)."""
    own_RB1 = features_RBF.square().sum(dim=2, keepdim=True)
    return own_RB1 - 2 * features_RBF @ centroids_RCF.transpose(1, 2) + centroids_RCF.square().sum(dim=2)[:, None]


def centroid_loss(features_RBF: Tensor, labels_RB: Tensor, centroids_RCF: Tensor) -> Tensor:
    """1/2 mean |v - C_y|^2 + 0.01 max(0, 10 - mean |v - C_j|^2 of the other classes), (R,), as the code weights Eq. 7."""
    square_RBC = _squares(features_RBF, centroids_RCF)
    own_RB = square_RBC.gather(2, labels_RB[..., None])[..., 0]
    others_R = (square_RBC.sum(dim=2) - own_RB).mean(dim=1) / square_RBC.shape[2]
    return 0.5 * own_RB.mean(dim=1) + REPEL * (MARGIN - others_R).clamp(min=0)


def begin(problem: Problem, _start: LinearHeads) -> MemoryHeads:
    """All parameters afresh, as torch.nn.Linear starts, a seed a replica."""
    wide, width, classes = problem.settings.hidden, problem.train.width, problem.classes
    sources = [generator(seed, "retrain", "oltr") for seed in problem.seeds]

    def drawn(*shape: int, fan_in: int) -> Tensor:
        values = torch.stack([sampled(torch.rand, shape, generator=source) for source in sources])
        return (2 * values - 1) / math.sqrt(fan_in)

    return MemoryHeads(
        drawn(wide, width, fan_in=width),
        drawn(wide, fan_in=width),
        drawn(classes, wide, fan_in=wide),
        drawn(classes, fan_in=wide),
        drawn(wide, wide, fan_in=wide),
        drawn(wide, fan_in=wide),
        drawn(classes, wide, fan_in=wide),
        torch.zeros(len(problem.seeds), classes, wide),
    )


def tensors(heads: MemoryHeads, _settings: Retrain) -> list[tuple[Tensor, float]]:
    return [(tensor, 1.0) for tensor in heads.parts().values()]


def objective(problem: Problem) -> StepLoss:
    """Cross entropy of the plain classifier for half of the steps; then centroids start from class means, and all trains."""

    def loss(heads: MemoryHeads, step: Step) -> Tensor:
        # Every tensor has a gradient at each step, if only 0.
        idle = sum(0.0 * tensor.sum() for tensor in heads.parts().values())
        if step.progress < PLAIN:
            plain_RBC = heads.logits(step.inputs_RBD)
            return cross_entropies(plain_RBC, step.labels_RB).mean(dim=1).sum() + idle
        if not heads.with_memory:
            heads.with_memory = True
            with torch.no_grad():
                heads.centroids_RCF.copy_(feature_means(heads, problem.train))
        features_RBF = heads.features(step.inputs_RBD)
        told = cross_entropies(heads.remembered(features_RBF), step.labels_RB).mean(dim=1)
        kept = centroid_loss(features_RBF, step.labels_RB, heads.centroids_RCF)
        return (told + CENTROID_LOSS * kept).sum() + idle

    return loss


def feature_means(heads: MemoryHeads, train: Features) -> Tensor:
    """The mean of each class's features over its clean rows, (R, C, F); 0 for a class without rows."""
    sum_RCF = torch.zeros_like(heads.centroids_RCF)
    for rows_B in train.blocks():
        inputs_BD = train.gather(0, rows_B)
        features_RBF = heads.features(inputs_BD.expand(heads.replicas, *inputs_BD.shape))
        sum_RCF.index_add_(1, train.labels_N[rows_B], features_RBF)
    return sum_RCF / train.counts_C.clamp(min=1)[:, None]


class Remembering(Architecture):
    """The heads as they are saved; `memory` is 1 where training came to the memory, which it does at half of its steps."""

    NAME = "oltr"
    SHAPES: ClassVar = {
        "feature_weight": "RFD",
        "feature_bias": "RF",
        "plain_weight": "RCF",
        "plain_bias": "RC",
        "selector_weight": "RFF",
        "selector_bias": "RF",
        "class_weight": "RCF",
        "centroids": "RCF",
        "memory": "",
    }
    WHOLE: ClassVar = frozenset({"memory"})

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self._with_memory = bool(tensors["memory"])

    def scores(self, inputs_BD: Tensor) -> Tensor:
        parts = [getattr(self, name) for name in self.SHAPES if name != "memory"]
        heads = MemoryHeads(*parts)
        heads.with_memory = self._with_memory
        return heads.logits(inputs_BD[None].expand(heads.replicas, -1, -1))


def finish(heads: MemoryHeads, problem: Problem) -> Scored:
    tensors = {**heads.parts(), "memory": torch.tensor(int(heads.with_memory))}
    return Scored(Remembering.on_these(tensors, problem.train.width))


OLTR = Training(tensors, objective=objective, begin=begin, finish=finish)
"""Liu et al., Large-Scale Long-Tailed Recognition in an Open World (2019), without its attention on maps. Its Places-LT code:
512 wide, SGD 0.01, weight decay 5e-4, 30 + 30 epochs, rates x 0.1 every 10, four rows of each class that a batch has; here
classes are drawn for each row. It divides a centroid's pull by one more than the rows of its class in the batch."""
