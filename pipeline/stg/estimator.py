"""Eq. 1 over the steps of stage 2: batch and memory, smoothed (paper, section 3.3, last paragraph)."""

import torch
from torch import Tensor

from pipeline.features import Features
from pipeline.settings.stage2 import STG
from pipeline.stg.statistics import ClassStatistics, class_statistics, split_statistics, targets


class TargetEstimator:
    """Eq. 1 on the fly: batch + memory, smoothed over steps; or the exact statistics of all rows.

    Smoothing is exponential. Per class it acts on mean and variance before a_i is taken off, which on fixed features
    equals the paper's per-sample smoothing at 1/n of the memory; per sample it keeps a row for each feature.
    """

    def __init__(self, fit: Features, settings: STG) -> None:
        self.settings = settings
        self.classes = len(fit.counts_C)
        self.memory = FeatureMemory(settings.memory)
        self._exact: ClassStatistics | None = None
        self._class: ClassStatistics | None = None
        self._mean_ND = self._variance_ND = self._seen_N = torch.empty(0)
        if settings.full_statistics:
            self._exact = split_statistics(fit, self.classes)
        elif settings.smoothing == "sample":
            self._mean_ND, self._variance_ND = torch.zeros(2, len(fit.labels_N), fit.width)
            self._seen_N = torch.zeros(len(fit.labels_N), dtype=torch.bool)

    def __call__(self, features_BD: Tensor, labels_B: Tensor, rows_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(mean_BD, variance_BD, valid_B) of a batch, which then enters the memory."""
        include_self = self.settings.include_self
        if self._exact is not None:
            return targets(features_BD, labels_B, self._exact, include_self)
        statistics = class_statistics(*self.memory.pool(features_BD, labels_B), self.classes)
        self.memory.push(features_BD, labels_B)
        if self.settings.smoothing == "class":
            statistics = self._smooth_class(statistics)
        mean_BD, variance_BD, valid_B = targets(features_BD, labels_B, statistics, include_self)
        if self.settings.smoothing == "sample":
            # A sample is seen in another view each step, so the way to its class's mean differs. The mean itself is smoothed.
            goal_BD, variance_BD = self._smooth_sample(mean_BD + features_BD, variance_BD, valid_B, rows_B)
            mean_BD = goal_BD - features_BD
        return mean_BD, variance_BD, valid_B

    def _smooth_class(self, new: ClassStatistics) -> ClassStatistics:
        old, momentum = self._class, self.settings.smoothing_momentum
        if old is None:
            self._class = new
            return new
        # A class that had fewer than two rows before starts from its present statistics. One that has fewer than two rows now
        # keeps the statistics that it had.
        weight_C1 = torch.where(old.count_C < 2, 0.0, torch.where(new.count_C < 2, 1.0, momentum))[:, None]
        self._class = ClassStatistics(
            weight_C1 * old.mean_CD + (1 - weight_C1) * new.mean_CD,
            weight_C1 * old.variance_CD + (1 - weight_C1) * new.variance_CD,
            torch.maximum(old.count_C, new.count_C),
        )
        return ClassStatistics(self._class.mean_CD, self._class.variance_CD, new.count_C)

    def _smooth_sample(
        self, mean_BD: Tensor, variance_BD: Tensor, valid_B: Tensor, rows_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight_B1 = torch.where(self._seen_N[rows_B], self.settings.smoothing_momentum, 0.0)[:, None]
        mean_BD = weight_B1 * self._mean_ND[rows_B] + (1 - weight_B1) * mean_BD
        variance_BD = weight_B1 * self._variance_ND[rows_B] + (1 - weight_B1) * variance_BD
        kept_B = rows_B[valid_B]
        self._mean_ND[kept_B], self._variance_ND[kept_B] = mean_BD[valid_B], variance_BD[valid_B]
        self._seen_N[kept_B] = True
        return mean_BD, variance_BD


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
