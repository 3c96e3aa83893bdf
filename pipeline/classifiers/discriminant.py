"""Linear discriminants in closed form, and `transfer`: means of rare classes borrow from those of classes like them. Pure.

With few rows it is a class's *mean* that is wrong, not the covariance. `transfer` shrinks each mean towards a soft mixture of the
other classes' means, by a share that falls with the class's rows: an empirical-Bayes estimate towards a local prior (James and
Stein, 1961; Efron and Morris, 1973). Its relatives: distribution calibration, which takes over the statistics of the nearest
base classes (Yang, Liu and Xu, Free Lunch for Few-Shot Learning, 2021), TailCalib, which draws features from tail classes
calibrated so (Vigneswaran et al., Feature Generation for Long-tail Classification, 2021), and PLDA.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from torch import Tensor
from torch.nn import functional

from pipeline.classifiers.eigen import eigen
from pipeline.classifiers.whitening import Whitening, class_means, fit_whitening, within_covariance

BLOCK_VALUES = 1 << 22
"""Shares of a mixture that are held at a time, 32 MiB."""


@dataclass(frozen=True)
class Transfer:
    """`shrinkage` r of the covariance; class c moves `shares` of the way, by `strength`; `temperature` T of the mixture.

    Strength 0 moves nothing: plain LDA. `corrected` takes off what noise adds to a mean's square.
    """

    shrinkage: float = 0.6
    strength: float | None = 3.0
    temperature: float = 0.1
    corrected: bool = False


LDA = Transfer(strength=0.0)


def shares(count_C: Tensor, strength: float | None) -> Tensor:
    """The share of the way that each class's mean moves, (C,): s = strength / (n + strength).

    It gives the posterior mean where class means scatter about the mixture as much as the mean of `strength` rows scatters
    about its class. Strength None stands for s = .55 - .085 ln n, not below 0. That is how far test means lie from training
    means where the backbone was trained on these very rows (measured on CIFAR-100-LT and two shorter backbones). Such training
    rows do not tell how far means err, because the backbone has drawn them together.
    """
    if strength is None:
        return (0.55 - 0.085 * count_C.double().clamp(min=1).log()).clamp(min=0)
    return strength / (count_C.double() + strength).clamp(min=1e-12)


def ledoit_wolf(features_ND: Tensor, labels_N: Tensor, classes: int) -> float:
    """The shrinkage of least expected squared error for the rows' scatter about their class means (Ledoit and Wolf, 2004)."""
    columns_ND = fit_whitening(features_ND, labels_N, classes, shrinkage=None).apply(features_ND)
    mean_CD, _ = class_means(columns_ND, labels_N, classes)
    within_ND = columns_ND.double() - mean_CD[labels_N]
    if not bool(within_ND.any()):
        return 1.0
    return float(ledoit_wolf_shrinkage(within_ND.cpu().numpy(), assume_centered=True))


def fit_discriminant(
    features_ND: Tensor, labels_N: Tensor, classes: int, setting: Transfer = LDA
) -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) on raw features, float32: LDA with uniform prior, or `transfer`.

    Columns standardised, whitened by the shrunk covariance within classes; w_c = m'_c, b_c = -|m'_c|^2 / 2. A class without
    rows gets bias -inf.
    """
    coordinates = fit_whitening(features_ND, labels_N, classes, setting.shrinkage)
    raw_CD, count_C = class_means(features_ND, labels_N, classes)
    mean_CD = _whitened_means(coordinates, raw_CD, count_C)
    scatter = 0.0
    if setting.corrected:
        scatter = float(within_covariance(coordinates.apply(features_ND), labels_N, classes).trace())
    blocks = list(_mixing_blocks(mean_CD, count_C, setting.strength, setting.temperature))
    weight_CD = torch.cat([mixing_BC @ mean_CD for mixing_BC in blocks])
    noise_C = torch.cat([_noise(mixing_BC, count_C, scatter) for mixing_BC in blocks])
    bias_C = -0.5 * (weight_CD.square().sum(dim=1) - noise_C)
    return coordinates.fold(weight_CD, bias_C.masked_fill(count_C == 0, -torch.inf))


def transferred_means(mean_CD: Tensor, count_C: Tensor, strength: float | None, temperature: float) -> Tensor:
    """m'_c = (1 - s_c) m_c + s_c sum_j w_cj m_j, (C, D), of means in whitened coordinates.

    Adding m' - m to each row of a class is the same transfer for any head. A class without rows keeps its mean of 0.
    """
    blocks = _mixing_blocks(mean_CD.double(), count_C.double(), strength, temperature)
    return torch.cat([mixing_BC @ mean_CD.double() for mixing_BC in blocks]).to(mean_CD.dtype)


def mean_shifts(features_ND: Tensor, labels_N: Tensor, classes: int, setting: Transfer) -> Tensor:
    """m'_c - m_c of each class, (C, D) float32, in the coordinates of the features; 0 for a class without rows.

    Which classes are alike is measured in coordinates whitened by `setting.shrinkage`. The transferred mean is a mixture of
    class means whose shares sum to 1, so the same shares give it in any coordinates.
    """
    coordinates = fit_whitening(features_ND, labels_N, classes, setting.shrinkage)
    mean_CD, count_C = class_means(features_ND, labels_N, classes)
    whitened_CD = _whitened_means(coordinates, mean_CD, count_C)
    blocks = _mixing_blocks(whitened_CD, count_C, setting.strength, setting.temperature)
    return (torch.cat([mixing_BC @ mean_CD for mixing_BC in blocks]) - mean_CD).float()


def _whitened_means(coordinates: Whitening, mean_CD: Tensor, count_C: Tensor) -> Tensor:
    """Class means in whitened coordinates, 0 for a class without rows."""
    return torch.where((count_C > 0)[:, None], coordinates.means(mean_CD), 0.0)


def _mixing_blocks(mean_CD: Tensor, count_C: Tensor, strength: float | None, temperature: float) -> Iterator[Tensor]:
    """`mixing` of some classes at a time, (B, C): of 10,000 classes the whole would be 800 MB."""
    square_C = mean_CD.square().sum(dim=1)
    for own_B in torch.arange(len(count_C)).split(max(1, BLOCK_VALUES // len(count_C))):
        distance_BC = square_C[own_B, None] + square_C - 2 * mean_CD[own_B] @ mean_CD.T
        yield mixing(distance_BC, own_B, count_C, strength, temperature)


def mixing(distance_BC: Tensor, own_B: Tensor, count_C: Tensor, strength: float | None, temperature: float) -> Tensor:
    """The weight of every class's mean in the transferred means of the classes `own_B`, (B, C), float64. Rows sum to 1.

    s_c by `shares`; w_cj ~ n_j exp(-d_cj^2 / (temperature * median d_c^2)) over the others that have rows.
    A class without rows, or without others, is left as it is.
    """
    itself_BC = functional.one_hot(own_B, len(count_C)).bool()
    others = int((count_C > 0).sum()) - 1
    if strength == 0 or others < 1:
        return itself_BC.double()
    excluded_BC = itself_BC | (count_C == 0)
    distance_BC = distance_BC.double().clamp(min=0).masked_fill(excluded_BC, torch.inf)
    # The lower median of the others: what is excluded stands last.
    middle_B = torch.as_tensor(np.partition(distance_BC.cpu().numpy(), (others - 1) // 2, axis=1)[:, (others - 1) // 2])
    unit_B = torch.where(torch.isfinite(middle_B) & (middle_B > 0), temperature * middle_B, 1.0)
    neighbour_BC = (count_C.clamp(min=1).log() - distance_BC / unit_B[:, None]).softmax(dim=1)
    share_B = torch.where(count_C[own_B] > 0, shares(count_C[own_B], strength), 0.0)
    return torch.where(itself_BC, (1 - share_B)[:, None], share_B[:, None] * neighbour_BC)


@dataclass(frozen=True)
class _Fold:
    """One fold in coordinates whitened by its training rows: rows held out (B,), their products with the means (B, C), the
    means' products with each other (C, C), training counts (C,), and the trace of the covariance within classes."""

    rows_B: Tensor
    product_BC: Tensor
    product_CC: Tensor
    count_C: Tensor
    scatter: float

    def mixing(self, strength: float | None, temperature: float) -> Tensor:
        square_C = self.product_CC.diagonal()
        distance_CC = square_C[:, None] + square_C - 2 * self.product_CC
        return mixing(distance_CC, torch.arange(len(square_C)), self.count_C, strength, temperature)


def held_out_scores(
    features_ND: Tensor,
    labels_N: Tensor,
    classes: int,
    fold_N: Tensor,
    shrinkages: Sequence[float],
    strengths: Sequence[float | None],
    temperatures: Sequence[float],
    corrected: Sequence[bool] = (False,),
) -> Iterator[tuple[Transfer, Tensor]]:
    """Each setting of the grid with scores (N, C), float32: those that every row gets from the fit that did not have it.

    `fold_N` says which fold holds a row out, -1 for none. The scores of a row that no fold holds out are NaN. Each fold is
    whitened once for each shrinkage; a further setting costs products of (C, C) matrices only. Columns are standardised on all
    rows: that uses no labels.
    """
    columns_ND = fit_whitening(features_ND, labels_N, classes, shrinkage=None).apply(features_ND)
    bases = [_basis(columns_ND, labels_N, classes, fold_N, fold) for fold in range(int(fold_N.max()) + 1)]
    for shrinkage in shrinkages:
        folds = [basis.whitened(shrinkage) for basis in bases]
        for temperature in temperatures:
            # Without a strength nothing moves, whatever the temperature.
            for strength in strengths if temperature == temperatures[0] else [s for s in strengths if s != 0]:
                mixed = [fold.mixing(strength, temperature) for fold in folds]
                for correct in corrected:
                    scores_NC = torch.full((len(labels_N), classes), torch.nan)
                    for fold, mixing_CC in zip(folds, mixed, strict=True):
                        scores_NC[fold.rows_B] = _scores(fold, mixing_CC, correct)
                    yield Transfer(shrinkage, strength, temperature, correct), scores_NC


def _scores(fold: _Fold, mixing_CC: Tensor, corrected: bool) -> Tensor:
    square_C = ((mixing_CC @ fold.product_CC) * mixing_CC).sum(dim=1)
    noise_C = _noise(mixing_CC, fold.count_C, fold.scatter if corrected else 0.0)
    scores_BC = fold.product_BC @ mixing_CC.T.float() - (0.5 * (square_C - noise_C)).float()
    return scores_BC.masked_fill(fold.count_C == 0, -torch.inf)


@dataclass(frozen=True)
class _Basis:
    """A fold in the principal axes of its covariance within classes: whitening is then a factor for each axis."""

    rows_B: Tensor
    held_out_BD: Tensor
    mean_CD: Tensor
    count_C: Tensor
    variance_D: Tensor

    def whitened(self, shrinkage: float) -> _Fold:
        middle = float(self.variance_D.mean())
        shrunk_D = (1 - shrinkage) * self.variance_D + shrinkage * middle
        # The floor is `inverse_root`'s: without shrinkage an axis along which nothing varies would count without end.
        factor_D = (
            1 / shrunk_D.clamp(min=max(1e-10 * float(shrunk_D.max()), 1e-30))
            if middle > 0
            else torch.ones_like(shrunk_D)
        )
        scaled_CD = self.mean_CD * factor_D
        scatter = float((self.variance_D * factor_D).sum())
        product_BC = self.held_out_BD @ scaled_CD.T.float()
        return _Fold(self.rows_B, product_BC, scaled_CD @ self.mean_CD.T, self.count_C, scatter)


def _basis(columns_ND: Tensor, labels_N: Tensor, classes: int, fold_N: Tensor, fold: int) -> _Basis:
    held_out_B, kept_K = (fold_N == fold).nonzero()[:, 0], (fold_N != fold).nonzero()[:, 0]
    train_KD, train_labels_K = columns_ND[kept_K], labels_N[kept_K]
    mean_CD, count_C = class_means(train_KD, train_labels_K, classes)
    centre_D = mean_CD[count_C > 0].mean(dim=0)
    variance_D, axis_DD = eigen(within_covariance(train_KD, train_labels_K, classes))
    held_out_BD = (columns_ND[held_out_B] - centre_D.float()) @ axis_DD.float()
    mean_CD = torch.where((count_C > 0)[:, None], mean_CD - centre_D, 0.0) @ axis_DD
    return _Basis(held_out_B, held_out_BD, mean_CD, count_C, variance_D.clamp(min=0))


def _noise(mixing_BC: Tensor, count_C: Tensor, scatter: float) -> Tensor:
    """By how much the square of a mean is too large on average, (B,): tr(S) / n for the mean of n rows."""
    return mixing_BC.square() @ (scatter / count_C.clamp(min=1))
