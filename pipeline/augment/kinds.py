"""Semantic transformation augmentation (paper, section 3.4): Eq. 3 and Eq. 4. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pipeline.augment.transfer import Transformations
from pipeline.settings.stage3 import Retrain


def class_strength(counts_C: Tensor) -> Tensor:
    """beta_c = sqrt(n_min / n_c), (C,) counts -> (C,): 1 for the smallest class, less for larger ones.

    A class without samples gets 0 and does not count as the smallest.
    """
    counts_C = torch.as_tensor(counts_C)
    present_C = counts_C > 0
    if not bool(present_C.any()):
        raise ValueError("class_strength: every class is empty")
    smallest = counts_C[present_C].min()
    return torch.where(present_C, (smallest / counts_C.clamp(min=1)).sqrt(), 0.0)


def transform(
    features_BD: Tensor,
    mean_BD: Tensor,
    variance_BD: Tensor,
    strength_B: Tensor,
    generator: Generator | None = None,
    noise_BD: Tensor | None = None,
) -> Tensor:
    """Eq. 3: a + (sqrt(Sigma) eps + mu) lambda beta, (B, D); `strength` = lambda * beta. Leading axes may be added.

    eps is drawn from `generator`, or given as `noise_BD`.
    """
    if noise_BD is None:
        noise_BD = torch.randn(
            features_BD.shape, generator=generator, dtype=features_BD.dtype, device=features_BD.device
        )
    return features_BD + (variance_BD.sqrt() * noise_BD + mean_BD) * strength_B[..., None]


def mix(
    features_BD: Tensor,
    augmented_BD: Tensor,
    threshold: float | Tensor,
    generator: Generator | None = None,
    uniform_BD: Tensor | None = None,
) -> Tensor:
    """Eq. 4: per dimension, the augmented value where m < threshold, else the original; m ~ U(0, 1) fresh each call.

    m is drawn from `generator`, or given as `uniform_BD`.
    """
    if uniform_BD is None:
        uniform_BD = torch.rand(features_BD.shape, generator=generator, device=features_BD.device)
    return torch.where(uniform_BD < threshold, augmented_BD, features_BD)


@dataclass
class Augmentation:
    """How a step's features are augmented, before settings are applied."""

    kind: str
    transformations: Transformations | None
    beta_C: Tensor
    """beta_c of Eq. 3, 0 for classes that are not augmented."""


def augment(
    features_SBD: Tensor,
    labels_SB: Tensor,
    flat_SB: Tensor,
    random: tuple[Tensor, Tensor],
    variants: Sequence[Retrain],
    augmentation: Augmentation,
) -> Tensor:
    """(V or 1, S, B, D): each variant's augmentation of the same features; `random` is noise and uniform, (S, B, D)."""
    noise_SBD, uniform_SBD = random

    def each(name: str) -> Tensor:
        """(V, 1, 1, 1), or (1, 1, 1, 1) where all variants agree."""
        values = [getattr(variant, name) for variant in variants]
        return torch.tensor(values if len(set(values)) > 1 else values[:1]).view(-1, 1, 1, 1)

    if augmentation.kind == "none":
        return features_SBD[None]
    if augmentation.kind == "noise":
        return features_SBD + each("noise") * noise_SBD
    if augmentation.kind == "dropout":
        keep = (uniform_SBD >= each("dropout")).to(features_SBD.dtype)
        return features_SBD * keep / (1 - each("dropout"))
    assert augmentation.transformations is not None
    mean_SBD, deviation_SBD = augmentation.transformations(features_SBD, flat_SB)
    # Eq. 4 of Eq. 3 as one sum: the mask and beta act on the transformation before lambda tells the variants apart.
    moved_SBD = torch.addcmul(mean_SBD, deviation_SBD, noise_SBD).mul_(augmentation.beta_C[labels_SB][..., None])
    return torch.addcmul(features_SBD, moved_SBD * (uniform_SBD < each("threshold")), each("strength"))
