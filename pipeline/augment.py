"""Semantic transformation augmentation (paper, section 3.4): Eq. 3 and Eq. 4. Pure."""

import torch
from torch import Generator, Tensor


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
