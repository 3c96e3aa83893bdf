"""The Semantic Transformation Generator (paper, section 3.3): its targets (Eq. 1), its memory, the network (Eq. 2).

The pairwise set of Eq. 1 need not be formed: mu_i = mean_y - a_i and Sigma_i = Var_y, both segment sums in O(P D).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.features import Features

VARIANCE_FLOOR = 1e-6
"""Added before a logarithm: a channel that a ReLU holds at zero has no variance."""
LOG_VARIANCE_RANGE = (-20.0, 10.0)


@dataclass(frozen=True)
class ClassStatistics:
    """Mean and biased variance of each class's rows, (C, D), and how many rows they come from, (C,)."""

    mean_CD: Tensor
    variance_CD: Tensor
    count_C: Tensor


def class_statistics(features_PD: Tensor, labels_P: Tensor, classes: int) -> ClassStatistics:
    """Statistics of each class among P rows; a class without rows gets mean and variance 0, count 0."""
    return _statistics(lambda: iter([(features_PD.float(), labels_P)]), labels_P, features_PD.shape[1], classes)


def split_statistics(features: Features, classes: int) -> ClassStatistics:
    """The same of a split's clean view, read in blocks."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for rows_B in features.blocks():
            yield features.gather(0, rows_B), features.labels_N[rows_B]

    return _statistics(blocks, features.labels_N, features.width, classes)


def _statistics(
    blocks: Callable[[], Iterator[tuple[Tensor, Tensor]]], labels_P: Tensor, width: int, classes: int
) -> ClassStatistics:
    """Centred passes: a large offset common to all rows does not cancel the variance away."""
    offset_D, mean_CD, variance_CD = torch.zeros(width), torch.zeros(classes, width), torch.zeros(classes, width)
    count_C = torch.bincount(labels_P, minlength=classes)
    divisor_C1 = count_C.clamp(min=1).to(mean_CD.dtype)[:, None]
    for features_BD, _ in blocks():
        offset_D += features_BD.sum(dim=0) / len(labels_P)
    for features_BD, labels_B in blocks():
        mean_CD.index_add_(0, labels_B, features_BD - offset_D)
    mean_CD /= divisor_C1
    for features_BD, labels_B in blocks():
        variance_CD.index_add_(0, labels_B, (features_BD - offset_D - mean_CD[labels_B]).square())
    variance_CD /= divisor_C1
    mean_CD = torch.where(count_C[:, None] > 0, mean_CD + offset_D, 0.0)
    return ClassStatistics(mean_CD, variance_CD, count_C)


def targets(
    features_BD: Tensor, labels_B: Tensor, statistics: ClassStatistics, include_self: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1 from class statistics: (mean_BD, variance_BD, valid_B); rows of a set smaller than 2 are not valid."""
    features_BD = features_BD.float()
    mean_BD = statistics.mean_CD[labels_B] - features_BD
    variance_BD = statistics.variance_CD[labels_B]
    size_B = statistics.count_C[labels_B]
    if include_self:
        return mean_BD, variance_BD, size_B >= 2
    k_B1 = size_B.to(features_BD.dtype)[:, None]
    others_B1 = (k_B1 - 1).clamp(min=1)
    variance_BD = (k_B1 / others_B1) * (variance_BD - mean_BD.square() / others_B1)
    return mean_BD * k_B1 / others_B1, variance_BD.clamp(min=0), size_B >= 3


def transformation_targets(
    features_BD: Tensor, labels_B: Tensor, pool_PD: Tensor, pool_labels_P: Tensor, include_self: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 1: mean and variance of the transformations from each sample to its class's rows in the pool.

    (B, D), (B,), (P, D), (P,) -> (mean_BD, variance_BD, valid_B). The pool is batch + memory, so a sample is in its own
    set (`include_self=False` leaves it out). The variance is biased, 1/k; where k < 2 `valid_B` is False.
    """
    if features_BD.shape[0] != labels_B.shape[0] or pool_PD.shape[0] != pool_labels_P.shape[0]:
        raise ValueError("transformation_targets: as many labels as features wanted, in the batch and in the pool")
    classes = int(torch.cat([labels_B, pool_labels_P]).max()) + 1
    return targets(features_BD, labels_B, class_statistics(pool_PD, pool_labels_P, classes), include_self)


class FeatureMemory:
    """The last `size` features and labels of earlier batches, first in, first out (paper, Figure 2 c); starts empty."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._features_MD: Tensor | None = None
        self._labels_M: Tensor | None = None

    def push(self, features_BD: Tensor, labels_B: Tensor) -> None:
        """Append a batch; the oldest rows beyond `size` are dropped."""
        if self.size == 0:
            return
        if self._features_MD is not None and self._labels_M is not None:
            features_BD = torch.cat([self._features_MD, features_BD])
            labels_B = torch.cat([self._labels_M, labels_B])
        self._features_MD, self._labels_M = features_BD[-self.size :], labels_B[-self.size :]

    def pool(self, features_BD: Tensor, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """Batch + memory: (P, D), (P,), P <= B + size."""
        if self._features_MD is None or self._labels_M is None:
            return features_BD, labels_B
        return torch.cat([features_BD, self._features_MD]), torch.cat([labels_B, self._labels_M])


class SemanticTransformationGenerator(nn.Module):
    """Eq. 2: (features_BD, head_index_B) -> (mean_BD, variance_BD) of each sample's semantic transformations.

    Two MLPs, D -> 2D -> 2D -> D, BatchNorm and ReLU on the hidden layers, read feature + token of the head class.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: tuple[float, ...] = (2.0, 2.0),
        variance: str = "log",
        token_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.variance = variance
        self.tokens_HD = nn.Parameter(torch.randn(heads, width) * token_std)
        self.mean_net = _mlp(width, hidden)
        self.variance_net = _mlp(width, hidden)

    def forward(self, features_BD: Tensor, head_index_B: Tensor) -> tuple[Tensor, Tensor]:
        inputs_BD = features_BD.float() + self.tokens_HD[head_index_B]
        raw_BD = self.variance_net(inputs_BD)
        variance_BD = (
            functional.softplus(raw_BD) if self.variance == "softplus" else raw_BD.clamp(*LOG_VARIANCE_RANGE).exp()
        )
        return self.mean_net(inputs_BD), variance_BD


def _mlp(width: int, hidden: tuple[float, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = width
    for factor in hidden:
        outputs = max(1, round(factor * width))
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, width))


def _log(variance: Tensor) -> Tensor:
    return torch.log(variance + VARIANCE_FLOOR)


def regression_loss(mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor, kind: str) -> Tensor:
    """Distance of predicted to target Gaussians, all (B, D) -> scalar, averaged over rows and channels.

    `mse` is the paper's regression taken literally; `mse-log` compares log variances, so that small ones count.
    `kl` is KL(target || predicted); `nll` the expected negative log likelihood, `kl` plus the target's entropy.
    """
    if kind == "mse":
        return functional.mse_loss(mean, target_mean) + functional.mse_loss(variance, target_variance)
    if kind == "mse-log":
        return functional.mse_loss(mean, target_mean) + functional.mse_loss(_log(variance), _log(target_variance))
    if kind == "l1":
        return functional.l1_loss(mean, target_mean) + functional.l1_loss(_log(variance), _log(target_variance))
    spread = variance + VARIANCE_FLOOR
    expected = 0.5 * (spread.log() + (target_variance + (target_mean - mean).square()) / spread)
    if kind == "nll":
        return expected.mean()
    if kind == "kl":
        return (expected - 0.5 * (1 + _log(target_variance))).mean()
    raise ValueError(f"regression_loss: unknown kind {kind!r}; wanted mse-log, mse, kl, nll or l1")
