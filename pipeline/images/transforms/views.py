"""What is done to an image for each view of it in a cache: clean, augmented for training rows, moved for the other rows."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from pipeline.images.transforms.recipe import PLAIN, FixedCrop, Recipe, describe, padding, policy_of
from pipeline.settings import Settings

CORNERS = (
    (0, 0, True),
    (-1, -1, False), (1, 1, True), (-1, 1, False), (1, -1, True),
    (1, 1, False), (-1, -1, True), (1, -1, False), (-1, 1, True),
)  # fmt: skip
"""The views of a test image beside the clean one, in order: down and right in units of `shift`, and whether mirrored. With the
clean one these are the ten crops of Krizhevsky et al. (2012, section 4.1); the first four are balanced in themselves."""


def shift(size: int) -> int:
    """Pixels that a test image of `size` pixels a side is moved by: half of what training moves it by at most, at least 1."""
    return max(padding(size) // 2, 1)


def augmented(settings: Settings) -> Recipe:
    """The recipe of the augmented views of training images, as `extract.view_policy` says."""
    policy, stage1 = settings.extract.view_policy, settings.stage1
    if policy == "training":
        return Recipe.of(settings)
    return Recipe(stage1.augmentation, policy_of("none" if policy == "flip-crop" else policy, stage1))


def crops(augmentation: str, size: int, views: int) -> list[FixedCrop]:
    """The crops of the first `views` views of a test image, the clean one first. None is mirrored where training mirrors none."""
    step, flips = shift(size), augmentation in ("crop-flip", "resized-crop")
    others = [
        FixedCrop(down * step, right * step, mirrored) for down, right, mirrored in CORNERS if flips or not mirrored
    ]
    return [FixedCrop(), *others][:views]


def cropped(pixels_BSS3: Tensor, crop: FixedCrop) -> Tensor:
    """Images uint8 (B, S, S, 3) as this crop shows them: moved over black, and mirrored."""
    size = pixels_BSS3.shape[1]
    pad = padding(size)
    top, left = pad + crop.down, pad + crop.right
    padded_BPP3 = F.pad(pixels_BSS3, (0, 0, pad, pad, pad, pad))
    moved_BSS3 = padded_BPP3[:, top : top + size, left : left + size]
    return moved_BSS3.flip(2) if crop.mirrored else moved_BSS3


def moved(settings: Settings) -> list[Recipe]:
    """The recipes of the views of test images beside the clean one."""
    own = crops(settings.stage1.augmentation, settings.data.image_size, settings.extract.test_views)
    return [Recipe("crop", fixed=crop) for crop in own[1:]]


def recipes(settings: Settings, split: str) -> list[Recipe]:
    """The recipe of each view of a split's images, the clean one first."""
    if split != "train":
        return [PLAIN, *moved(settings)]
    recipe = augmented(settings)
    # Views of unaugmented images would be copies of the clean one.
    return [PLAIN] + ([recipe] * settings.extract.views if recipe != PLAIN else [])


def described(settings: Settings, size: int) -> dict[str, Any]:
    """What the views beside the clean one are, as a cache's identity states it: {} where there are none.

    Shifted batch-norm statistics are those of images as training augments them.
    """
    training, views = Recipe.of(settings), recipes(settings, "train")[1:]
    shifted = settings.extract.bn == "shifted"
    text = describe(views[0] if views else training, size) if views or shifted else {}
    if views and shifted and views[0] != training:
        text["statistics"] = str(describe(training, size))
    if settings.extract.test_views > 1:
        mirrored = ", mirrored" if any(recipe.fixed and recipe.fixed.mirrored for recipe in moved(settings)) else ""
        text["test"] = f"moved by {shift(size)}{mirrored}"
    return text
