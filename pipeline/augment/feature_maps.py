"""FeatureAug (Chu et al., Feature Space Augmentation for Long-Tailed Data, 2020, sections 3.2 and 3.3), on cached feature maps.

A tail row's map keeps the places that speak for its class, and takes others from the background of a head row whose class it is
confused with. The feature is the mean over the places of the fused map.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pipeline.augment.generated import Generate
from pipeline.features import Features, Maps
from pipeline.longtail import head_classes

if TYPE_CHECKING:
    from pipeline.augment.kinds import Draw
    from pipeline.settings import Settings

CHOICES = 4
"""Random numbers a row beside one for each place: whether it is fused, with which class, with which row, and for how much."""
BLOCK_VALUES = 1 << 24
"""Numbers of maps that are taken to float32 at a time."""


def activation(maps_BDP: Tensor, weight_BD: Tensor) -> Tensor:
    """Class activation maps (B, P), in [0, 1], of maps over P places for a class a row, given by its weights.

    max(0, sum_k w_k F_k), its least value moved to 0 and its greatest to 1 (Zhou et al., 2016, Eq. 2). With average pooling and
    a linear classifier this is Grad-CAM, as the authors use it. A map without contrast is 0.
    """
    raw_BP = (weight_BD[:, None] @ maps_BDP)[:, 0].clamp(min=0)
    low_B1, high_B1 = raw_BP.amin(dim=1, keepdim=True), raw_BP.amax(dim=1, keepdim=True)
    return (raw_BP - low_B1) / (high_B1 - low_B1).clamp(min=torch.finfo(raw_BP.dtype).tiny)


def fuse(tail_BDP: Tensor, head_BDP: Tensor, specific_BP: Tensor, generic_BP: Tensor, from_tail_BP: Tensor) -> Tensor:
    """The mean (B, D) over the places of fused maps: the tail's class-specific places where `from_tail`, else the head's
    class-generic ones, at the same place. A place that is neither is 0, as in the published code."""
    tail_BD = (tail_BDP @ (from_tail_BP & specific_BP).to(tail_BDP.dtype)[:, :, None])[:, :, 0]
    head_BD = (head_BDP @ (~from_tail_BP & generic_BP).to(head_BDP.dtype)[:, :, None])[:, :, 0]
    return (tail_BD + head_BD) / tail_BDP.shape[2]


def confusing(train: Features, maps: Maps, heads: list[int], k: int) -> Tensor:
    """The k head classes with the highest mean score, by the stage-1 classifier's softmax, on the rows of each class: (C, k)."""
    sum_CC = torch.zeros(len(train.counts_C), len(train.counts_C))
    for rows_B in train.blocks():
        raw_BD = train.stored(0, rows_B)
        score_BC = torch.addmm(maps.bias_C, raw_BD, maps.weight_CD.T).softmax(dim=1)
        sum_CC.index_add_(0, train.labels_N[rows_B], score_BC)
    return torch.tensor(heads)[sum_CC[:, heads].topk(k, dim=1).indices]


def feature_aug(settings: Settings, train: Features) -> Generate:
    """A share `fused_rows` of the tail's rows is fused, each with a row of one of its `neighbour_classes` confusing classes.

    Published: three fused rows beside each real one (N_a = 3), three confusing classes (N_f = 3), thresholds .8 and .2, and
    places from the tail with probability 1 - gamma, gamma ~ U(0, 1) a row. The other half of its batches are head rows as
    they are; here the head's `sampling` decides that.
    """
    maps, retrain = train.maps, settings.retrain
    assert maps is not None
    heads = [c for c in head_classes(train.counts_C.tolist(), settings.stg) if train.counts_C[c] > 0]
    is_tail_C = torch.ones(len(train.counts_C), dtype=torch.bool).index_fill(0, torch.tensor(heads), False)
    near_CK = confusing(train, maps, heads, min(retrain.neighbour_classes, len(heads)))
    specific_NP, generic_NP = _parts(train, maps, retrain.specific_above, retrain.generic_below)
    stored_N = _stored_rows(train)
    by_class_N = stored_N[train.labels_N.argsort(stable=True)]
    start_C = train.counts_C.cumsum(0) - train.counts_C

    def generate(draw: Draw) -> Tensor:
        choice_SB4, place_SBP = draw.uniform_SBD[..., :CHOICES], draw.uniform_SBD[..., CHOICES:]
        fused_SB = is_tail_C[draw.labels_SB] & (choice_SB4[..., 0] < retrain.fused_rows)
        _, which_M, row_M, gamma_M = choice_SB4[fused_SB].unbind(dim=1)
        own_M = draw.flat_SB[fused_SB] % len(maps.maps_NDP)
        near_MK = near_CK[draw.labels_SB[fused_SB]]
        class_M = near_MK.gather(1, _index(which_M, near_MK.shape[1])[:, None])[:, 0]
        other_M = by_class_N[start_C[class_M] + _index(row_M, train.counts_C[class_M])]
        from_tail_MP = place_SBP[fused_SB] > gamma_M[:, None]
        tail_MDP, head_MDP = maps.maps_NDP[own_M].float(), maps.maps_NDP[other_M].float()
        fused_MD = fuse(tail_MDP, head_MDP, specific_NP[own_M], generic_NP[other_M], from_tail_MP)
        features_SBD = draw.features_SBD.clone()
        features_SBD[fused_SB] = fused_MD if train.coordinates is None else train.coordinates.apply(fused_MD)
        return features_SBD

    return generate


def numbers(train: Features) -> int:
    """How many random numbers a row of a step wants."""
    assert train.maps is not None
    return CHOICES + train.maps.maps_NDP.shape[2]


def _index(uniform_M: Tensor, count: Tensor | int) -> Tensor:
    """Uniform numbers in [0, 1) as whole numbers below `count`."""
    index_M = (uniform_M * count).long()
    return torch.minimum(index_M, torch.as_tensor(count) - 1)  # a product may be rounded up to `count`


def _stored_rows(train: Features) -> Tensor:
    return torch.arange(len(train.labels_N)) if train.rows_N is None else train.rows_N


def _parts(train: Features, maps: Maps, above: float, below: float) -> tuple[Tensor, Tensor]:
    """Which places of each stored row's map are class-specific and which class-generic, by its own class: bool (N, P) each."""
    rows, width, places = maps.maps_NDP.shape
    specific_NP, generic_NP = torch.zeros(rows, places, dtype=torch.bool), torch.zeros(rows, places, dtype=torch.bool)
    labelled = zip(
        _stored_rows(train).split(max(1, BLOCK_VALUES // (width * places))),
        train.labels_N.split(max(1, BLOCK_VALUES // (width * places))),
        strict=True,
    )
    for stored_B, labels_B in labelled:
        active_BP = activation(maps.maps_NDP[stored_B].float(), maps.weight_CD[labels_B])
        specific_NP[stored_B], generic_NP[stored_B] = active_BP > above, active_BP < below
    return specific_NP, generic_NP
