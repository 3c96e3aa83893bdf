"""The augmentations of features: the register `KINDS`, one row each, and the paper's Eq. 3 and 4 (section 3.4). Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pipeline.augment import feature_maps, generated
from pipeline.augment.transfer import Transformations
from pipeline.features import Features, take
from pipeline.settings import Settings
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
    return _move(features_BD, _transformation(mean_BD, variance_BD.sqrt(), noise_BD), strength_B[..., None])


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
    return torch.where(_chosen(uniform_BD, threshold), augmented_BD, features_BD)


def _transformation(mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """Eq. 3's sqrt(Sigma) eps + mu."""
    return torch.addcmul(mean, deviation, noise)


def _move(features: Tensor, transformation: Tensor, strength: Tensor) -> Tensor:
    """Eq. 3's a + transformation * strength."""
    return torch.addcmul(features, transformation, strength)


def _chosen(uniform: Tensor, threshold: float | Tensor) -> Tensor:
    """Eq. 4's mask: where m < t."""
    return uniform < threshold


@dataclass(frozen=True)
class Draw:
    """The rows of one training step, B rows for each of S seeds, and the random numbers that are drawn for them."""

    features_SBD: Tensor
    labels_SB: Tensor
    flat_SB: Tensor
    """The position of each row among the stored rows of all views: view * N + row."""
    noise_SBD: Tensor
    """Standard normal numbers. Empty where the augmentation draws none."""
    uniform_SBD: Tensor
    """Numbers uniform in [0, 1). Empty where the augmentation draws none."""
    others_SBD: Tensor | None = None
    """Features of as many other rows, sampled as rows are, where the augmentation draws some."""


@dataclass(frozen=True)
class Kind:
    """An augmentation: which random numbers a step draws, and the function that changes the step's features."""

    draws_noise: bool
    draws_uniform: bool
    act: "Callable[[Draw, Each, Augmentation], Tensor]"
    """Returns the features of each of V variants of the settings, (V, S, B, D). The first axis is 1 where they agree."""
    draws_rows: bool = False
    """Whether a step draws a second batch of rows for it, each row as likely as any other."""
    make: "Callable[[Settings, Features], Callable[[Draw], Tensor]] | None" = None
    """For kinds that generate features: from the training rows, what makes (S, B, D) of a step."""
    uniforms: "Callable[[Features], int] | None" = None
    """How many uniform numbers a row of a step wants. None: one for each of the D features."""


@dataclass(frozen=True)
class Augmentation:
    """The settings' augmentation on the rows of a cache, before its strength is applied."""

    kind: Kind
    transformations: Transformations | None
    """Mean and standard deviation of Eq. 1 for each row. None for augmentations that do not use them."""
    beta_C: Tensor
    """beta_c of Eq. 3, 0 for classes that are not augmented."""
    shift_CD: Tensor | None = None
    """What `transfer` adds to the rows of each class, in the coordinates of the features. None for the others."""
    generate: Callable[[Draw], Tensor] | None = None
    """Of the kinds that generate features."""


@dataclass(frozen=True)
class Each:
    """Reads a setting from V variants of the settings that are trained side by side."""

    variants: Sequence[Retrain]

    def __call__(self, name: str) -> Tensor:
        """(V, 1, 1, 1), or (1, 1, 1, 1) where all variants agree."""
        values = [getattr(variant, name) for variant in self.variants]
        return torch.tensor(values if len(set(values)) > 1 else values[:1]).view(-1, 1, 1, 1)


def augment(draw: Draw, variants: Sequence[Retrain], augmentation: Augmentation) -> Tensor:
    """(V or 1, S, B, D): each variant's augmentation of the same features."""
    return augmentation.kind.act(draw, Each(variants), augmentation)


def _unchanged(draw: Draw, _each: Each, _augmentation: Augmentation) -> Tensor:
    return draw.features_SBD[None]


def _noise(draw: Draw, each: Each, _augmentation: Augmentation) -> Tensor:
    return draw.features_SBD + each("noise") * draw.noise_SBD


def _dropout(draw: Draw, each: Each, _augmentation: Augmentation) -> Tensor:
    keep = _ones_where(torch.ge, draw.uniform_SBD, each("dropout"))
    return keep.mul_(draw.features_SBD).div_(1 - each("dropout"))


def _semantic(draw: Draw, each: Each, augmentation: Augmentation) -> Tensor:
    assert augmentation.transformations is not None
    mean_SBD, deviation_SBD = augmentation.transformations(draw.features_SBD, draw.flat_SB)
    beta_SB1 = augmentation.beta_C[draw.labels_SB][..., None]
    # Eq. 4 of Eq. 3, written as one sum: where the mask is off, nothing is added. Beta and the mask of a row are the same for
    # all variants, so they come before lambda, by which variants differ.
    moved_SBD = _transformation(mean_SBD, deviation_SBD, draw.noise_SBD).mul_(beta_SB1)
    chosen_VSBD = _ones_where(torch.lt, draw.uniform_SBD, each("threshold"))
    return _move(draw.features_SBD, chosen_VSBD.mul_(moved_SBD), each("strength"))


def _ones_where(compare: Callable[..., Tensor], uniform_SBD: Tensor, bound_V111: Tensor) -> Tensor:
    """1 where the comparison holds, else 0, (V, S, B, D): multiplying by numbers is several times as fast as by truth values."""
    ones_VSBD = uniform_SBD.new_empty(len(bound_V111), *uniform_SBD.shape)
    return compare(uniform_SBD, bound_V111, out=ones_VSBD)


def _transfer(draw: Draw, _each: Each, augmentation: Augmentation) -> Tensor:
    assert augmentation.shift_CD is not None
    return (draw.features_SBD + take(augmentation.shift_CD, draw.labels_SB))[None]


def _h2t(draw: Draw, each: Each, _augmentation: Augmentation) -> Tensor:
    """H2T (Li et al., Feature Fusion from Head to Tail, 2024): a step takes some channels, the same for all its rows, from
    rows sampled as they are. Its code: floor(share * D) channels, drawn afresh each step."""
    assert draw.others_SBD is not None
    rank_SD = draw.uniform_SBD[:, 0].argsort(dim=1).argsort(dim=1)
    width = draw.features_SBD.shape[2]
    taken_VSD = rank_SD < (each("fused") * width).floor()[:, 0]
    return torch.where(taken_VSD[:, :, None], draw.others_SBD, draw.features_SBD)


def _generated(draw: Draw, _each: Each, augmentation: Augmentation) -> Tensor:
    assert augmentation.generate is not None
    return augmentation.generate(draw)[None]


KINDS: dict[str, Kind] = {
    "none": Kind(False, False, _unchanged),
    "dropout": Kind(False, True, _dropout),
    "noise": Kind(True, False, _noise),
    "transfer": Kind(False, False, _transfer),
    "closed-form": Kind(True, True, _semantic),
    "stg": Kind(True, True, _semantic),
    "h2t": Kind(False, True, _h2t, draws_rows=True),
    "class-gaussian": Kind(True, True, _generated, make=generated.class_gaussian),
    "distribution-calibration": Kind(True, True, _generated, make=generated.distribution_calibration),
    "tailcalibx": Kind(True, True, _generated, make=generated.tailcalibx),
    "feature-aug": Kind(False, True, _generated, make=feature_maps.feature_aug, uniforms=feature_maps.numbers),
}
UNCHANGED = Augmentation(KINDS["none"], None, torch.zeros(0))


def kind(name: str) -> Kind:
    """The augmentation of this name; ValueError, listing all, for a name that has no row."""
    if name not in KINDS:
        raise ValueError(f"augmentation {name!r}: no such augmentation; wanted one of {', '.join(KINDS)}")
    return KINDS[name]
