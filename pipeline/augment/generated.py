"""Features generated from class statistics: a share of a class's rows is replaced by draws from a normal distribution.

The share is 1 - n_c / n_max, what the published methods generate to make classes equally large; they do so before training,
here each step draws afresh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.features import Features, take
from pipeline.longtail import head_classes
from pipeline.stg.statistics import ClassStatistics, split_statistics

if TYPE_CHECKING:
    from pipeline.augment.kinds import Draw
    from pipeline.settings import Settings

Generate = Callable[["Draw"], Tensor]
FACTORS_LIMIT = 1 << 31
"""Bytes that the factors of full covariances may take."""
DIAGONAL = 1e-4
"""Added to a full covariance's diagonal, as in the code of TailCalib, so that it has a Cholesky factor."""


def generated_share(counts_C: Tensor) -> Tensor:
    """The share of each class's rows that are generated, (C,): 1 - n_c / n_max."""
    return 1 - counts_C.float() / counts_C.max().clamp(min=1)


def class_gaussian(_settings: Settings, train: Features) -> Generate:
    """Draws from N(mean_y, Var_y) of the row's own class, diagonal: the plain class-level augmentation."""
    statistics = split_statistics(train, len(train.counts_C))
    deviation_CD, share_C = statistics.variance_CD.sqrt(), generated_share(train.counts_C)

    def generate(draw: Draw) -> Tensor:
        mean_SBD, deviation_SBD = take(statistics.mean_CD, draw.labels_SB), take(deviation_CD, draw.labels_SB)
        return _replaced(draw, torch.addcmul(mean_SBD, deviation_SBD, draw.noise_SBD), share_C)

    return generate


def distribution_calibration(settings: Settings, train: Features) -> Generate:
    """Tail rows are drawn around the mean of the row and of its k nearest head classes (Yang et al., Free Lunch for Few-shot
    Learning: Distribution Calibration, 2021, Eq. 5 to 7; k = 2, alpha = 0.21), without Tukey's transformation.
    """
    heads = head_classes(train.counts_C.tolist(), settings.stg)
    share_C = generated_share(train.counts_C)
    share_C[heads] = 0.0
    return _calibrated(settings, train, heads, share_C)


def tailcalibx(settings: Settings, train: Features) -> Generate:
    """The same from the nearest of all classes, and afresh while training goes on (Vigneswaran et al., Feature Generation for
    Long-tail Classification, 2021, Eq. 7 and 8). CIFAR-100-LT, imbalance 100, in its code: k = 3, alpha = 0.
    """
    lenders = (train.counts_C > 1).nonzero()[:, 0].tolist() or [int(train.counts_C.argmax())]
    return _calibrated(settings, train, lenders, generated_share(train.counts_C))


def _calibrated(settings: Settings, train: Features, lenders: list[int], share_C: Tensor) -> Generate:
    """Draws from N((a + the sum of k lenders' means) / (k + 1), their mean covariance + alpha)."""
    retrain = settings.retrain
    k = min(retrain.neighbour_classes, len(lenders))
    statistics = split_statistics(train, len(train.counts_C))
    near_FK = torch.tensor(lenders)[_nearest(train, statistics.mean_CD[lenders], k)]
    sets_UK, set_F = near_FK.sort(dim=1).values.unique(dim=0, return_inverse=True)
    sum_UD = statistics.mean_CD[sets_UK].sum(dim=1)
    spread = _full if retrain.covariance == "full" else _diagonal
    noise_of = spread(train, statistics, sets_UK, retrain.spread)

    def generate(draw: Draw) -> Tensor:
        set_SB = set_F[draw.flat_SB]
        mean_SBD = (take(sum_UD, set_SB) + draw.features_SBD) / (k + 1)
        return _replaced(draw, mean_SBD + noise_of(draw.noise_SBD, set_SB), share_C)

    return generate


def _nearest(train: Features, means_LD: Tensor, k: int) -> Tensor:
    """The k nearest of L means to each flat row, (F, k), by Euclidean distance."""
    offset_D = means_LD.mean(dim=0)
    centred_LD = means_LD - offset_D
    half_L = 0.5 * centred_LD.square().sum(dim=1)
    parts = []
    for view in range(train.views):
        # Every stored row, so that a flat index finds its own even where only some rows are meant.
        stored = torch.arange(train.features_VND.shape[1])
        whole = train.every()
        for rows_B in stored.split(8192):
            similar_BL = (whole.gather(view, rows_B) - offset_D) @ centred_LD.T - half_L
            parts.append(similar_BL.topk(k, dim=1).indices)
    return torch.cat(parts)


def _diagonal(
    _train: Features, statistics: ClassStatistics, sets_UK: Tensor, alpha: float
) -> Callable[[Tensor, Tensor], Tensor]:
    deviation_UD = (statistics.variance_CD[sets_UK].mean(dim=1) + alpha).sqrt()
    return lambda noise_SBD, set_SB: noise_SBD * take(deviation_UD, set_SB)


def _full(
    train: Features, statistics: ClassStatistics, sets_UK: Tensor, alpha: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """With alpha on every entry of the covariance, not on its diagonal alone, as both methods' code has it."""
    width, size = train.width, 4 * len(sets_UK) * train.width**2
    if size > FACTORS_LIMIT:
        raise ConfigError(
            f"retrain.covariance=full: {len(sets_UK)} sets of classes of width {width} want {size / 2**30:.0f} GiB; "
            "set retrain.covariance=diagonal"
        )
    covariance_CDD = torch.zeros(len(statistics.mean_CD), width, width)
    for c in sets_UK.unique().tolist():
        rows_N = (train.labels_N == c).nonzero()[:, 0]
        centred_ND = train.gather(0, rows_N) - statistics.mean_CD[c]
        covariance_CDD[c] = centred_ND.T @ centred_ND / max(len(rows_N) - 1, 1)
    calibrated_UDD = covariance_CDD[sets_UK].mean(dim=1).double() + alpha + DIAGONAL * torch.eye(width).double()
    factor_UDD = torch.linalg.cholesky(calibrated_UDD).float()
    return lambda noise_SBD, set_SB: (factor_UDD[set_SB] @ noise_SBD[..., None])[..., 0]


def _replaced(draw: Draw, generated_SBD: Tensor, share_C: Tensor) -> Tensor:
    """The step's features, a share of each class's rows replaced by generated ones."""
    chosen_SB1 = draw.uniform_SBD[..., :1] < share_C[draw.labels_SB][..., None]
    return torch.where(chosen_SB1, generated_SBD, draw.features_SBD)
