"""TrivialAugment and RandAugment: operations are drawn for each image; images that drew the same one go through it together."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.images.transforms.operations import OPERATIONS

LEVELS = 31
"""Magnitudes of an operation, evenly from nothing to the strongest, as in the code of both papers."""
SIGNED = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
"""Operations whose magnitude gets a minus sign for half of the draws."""


@dataclass(frozen=True)
class Policy:
    """`operations` follow one another, each drawn uniformly, at `level` 0 … 30; `level` None draws that uniformly too.

    `name` says how strong the strongest level is: `trivialaugment`, the wide space of Müller and Hutter (2021), which nothing was
    tuned for, or `randaugment`, the space of Cubuk et al. (2020), whose number and level its authors tuned on full data sets.
    Ranges and operations are those of torchvision's `TrivialAugmentWide` and `RandAugment`.
    """

    name: str
    operations: int = 1
    level: int | None = None


class Reach(NamedTuple):
    """An operation's strongest magnitude in a space."""

    slope: float
    degrees: float
    change: float
    bits: int
    """Bits that posterizing takes away at most."""


REACHES = {"trivialaugment": Reach(0.99, 135.0, 0.99, 6), "randaugment": Reach(0.3, 30.0, 0.9, 4)}


def magnitudes(name: str, size: int) -> Tensor:
    """Magnitude of each operation at each level, (O, 31), in the unit that the operation takes; 0 where it takes none."""
    slope, degrees, change, bits = REACHES[name]
    # TrivialAugment moves by 32 pixels at any size. RandAugment moves by 150 of 331 pixels.
    pixels = 32.0 if name == "trivialaugment" else 150 / 331 * size
    level_K = torch.arange(LEVELS, dtype=torch.float64)
    strongest = {"ShearX": slope, "ShearY": slope, "TranslateX": pixels, "TranslateY": pixels, "Rotate": degrees}
    strongest |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), change)
    rows = {operation: level_K * most / (LEVELS - 1) for operation, most in strongest.items()}
    rows["Posterize"] = (8 - level_K * bits / (LEVELS - 1)).round()
    rows["Solarize"] = 255 - level_K * 255 / (LEVELS - 1)
    return torch.stack([rows.get(operation, torch.zeros_like(level_K)) for operation in OPERATIONS])


def draw_operations(policy: Policy, rows: int, size: int, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """For every row the numbers of its operations in `OPERATIONS` and their magnitudes, both (L, N)."""
    shape = (policy.operations, rows)
    operation_LN = torch.randint(len(OPERATIONS), shape, generator=source)
    level_LN = torch.randint(LEVELS, shape, generator=source)
    negative_LN = torch.randint(2, shape, generator=source).bool()
    if policy.level is not None:
        level_LN = torch.full(shape, policy.level)
    signed_O = torch.tensor([operation in SIGNED for operation in OPERATIONS])
    magnitude_LN = magnitudes(policy.name, size)[operation_LN, level_LN]
    return operation_LN, torch.where(negative_LN & signed_O[operation_LN], -magnitude_LN, magnitude_LN)


def transform(images_B3SS: Tensor, operation_LB: Tensor, magnitude_LB: Tensor) -> Tensor:
    """Each image after its own L operations: uint8 (B, 3, S, S), in the memory format that it came in."""
    functions = list(OPERATIONS.values())
    changed_B3SS = images_B3SS.clone()
    for operation_B, magnitude_B in zip(operation_LB, magnitude_LB, strict=True):
        for number in operation_B.unique().tolist():
            own_K = (operation_B == number).nonzero()[:, 0]
            changed_B3SS[own_K] = functions[number](changed_B3SS[own_K], magnitude_B[own_K])
    return changed_B3SS
