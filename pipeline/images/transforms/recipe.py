"""Image augmentation: batched on uint8 tensors, or torchvision's transforms one image at a time where a crop is resized."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torchvision.transforms import v2

from pipeline.images.transforms.policies import Policy, draw_operations, transform
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.settings.stage1 import Stage1

JITTER = 0.4
"""Brightness, contrast and saturation of ImageNet-LT and Places-LT (Liu et al., 2019)."""


def policy_of(name: str, stage1: Stage1) -> Policy | None:
    """The policy that `stage1.policy` names; RandAugment's number and level are those of the settings."""
    policies = {
        "none": None,
        "trivialaugment": Policy("trivialaugment"),
        "randaugment": Policy("randaugment", stage1.randaugment_operations, stage1.randaugment_magnitude),
    }
    return policies[name]


@dataclass(frozen=True)
class FixedCrop:
    """A crop that is the same for every image: pixels from the middle of the padded image, and whether it is mirrored."""

    down: int = 0
    right: int = 0
    mirrored: bool = False


@dataclass(frozen=True)
class Recipe:
    """What is done to an image, in the order of the fields; by default nothing."""

    crop: str = "none"
    """A value of `stage1.augmentation`."""
    policy: Policy | None = None
    cutout: int = 0
    fill_3: tuple[int, ...] = (0, 0, 0)
    """Red, green and blue, 0 … 255, of the pixels that cutout blanks."""
    fixed: FixedCrop | None = None
    """Where to crop; None: drawn for each image."""

    @staticmethod
    def of(settings: Settings) -> "Recipe":
        """The recipe of training. Cutout fills with the data's mean, which normalisation makes 0."""
        stage1 = settings.stage1
        fill_3 = tuple(round(255 * mean) for mean in settings.data.mean) if stage1.cutout else (0, 0, 0)
        return Recipe(stage1.augmentation, policy_of(stage1.policy, stage1), stage1.cutout, fill_3)


PLAIN = Recipe()
"""The recipe of the clean view."""


@dataclass(frozen=True)
class Draws:
    """What is drawn for each of N rows: crop, flip, the policy's operations and cutout.

    `top_N` and `left_N` are the crop's corner, in pixels from the corner of the padded image. `operation_LN` and
    `magnitude_LN` hold L operations a row, none without a policy. `centre_2N` is row and column of the blanked square.
    """

    top_N: Tensor
    left_N: Tensor
    flip_N: Tensor
    operation_LN: Tensor
    magnitude_LN: Tensor
    centre_2N: Tensor


def padding(size: int) -> int:
    """Pixels of padding at each side before a random crop: 4 at 32, as is usual for CIFAR, and in proportion elsewhere."""
    return max(size // 8, 1)


def draw(recipe: Recipe, rows: int, size: int, seed: int, time: int) -> Draws:
    """The `time`-th draws for every row of a split at once: a row's view depends neither on batches nor on their order."""
    again = [time] if time else []
    source = generator(seed, "augment", *again)
    pad = padding(size)
    top_N, left_N = torch.full((2, rows), pad)
    flip_N = torch.zeros(rows, dtype=torch.bool)
    if recipe.fixed:
        top_N, left_N = top_N + recipe.fixed.down, left_N + recipe.fixed.right
        flip_N = torch.full((rows,), recipe.fixed.mirrored)
    elif recipe.crop in ("crop", "crop-flip"):
        top_N, left_N = torch.randint(0, 2 * pad + 1, (2, rows), generator=source)
    if recipe.crop == "crop-flip" and not recipe.fixed:
        flip_N = torch.randint(0, 2, (rows,), generator=source).bool()
    operation_LN, magnitude_LN = torch.zeros(0, rows, dtype=torch.long), torch.zeros(0, rows)
    if recipe.policy:
        operation_LN, magnitude_LN = draw_operations(recipe.policy, rows, size, generator(seed, "policy", *again))
    centre_2N = torch.zeros(2, rows, dtype=torch.long)
    if recipe.cutout:
        centre_2N = draw_centres(rows, size, generator(seed, "cutout", *again))
    return Draws(top_N, left_N, flip_N, operation_LN, magnitude_LN, centre_2N)


class Augmenter:
    """Carries out a recipe on N images of `size` pixels a side, with the draws of one seed.

    Draws are made for all N images at once: one set for the first time that images are drawn, one for each repeat.
    """

    def __init__(self, recipe: Recipe, images: int, size: int, seed: int) -> None:
        self._recipe = recipe
        self._images = images
        self._size = size
        self._seed = seed
        self._draws: list[Draws] = []
        self._stacked: list[Tensor] = []

    def draws(self, rows_B: Tensor, repeats_B: Tensor) -> Draws:
        """What is drawn for rows of the split (B,), each for the 0-based time in `repeats_B` (B,); of B rows in turn."""
        times = int(repeats_B.max()) + 1
        if times > len(self._draws):
            more = range(len(self._draws), times)
            self._draws += [draw(self._recipe, self._images, self._size, self._seed, time) for time in more]
            columns = ([getattr(draws, field.name) for draws in self._draws] for field in fields(Draws))
            self._stacked = [torch.stack(column, dim=-2) for column in columns]
        return Draws(*(values[..., repeats_B, rows_B] for values in self._stacked))

    def crop(self, padded_NSS3: Tensor, positions_B: Tensor, draws: Draws) -> Tensor:
        """`crop_flip` of the images at these positions, with a draw for each."""
        return crop_flip(padded_NSS3, self._size, positions_B, draws)

    def finish(self, pixels_B3SS: Tensor, draws: Draws) -> Tensor:
        """The policy and the cutout, which follow the crop, with a draw for each image; uint8 (B, 3, S, S)."""
        recipe = self._recipe
        if recipe.policy:
            pixels_B3SS = transform(pixels_B3SS, draws.operation_LN, draws.magnitude_LN)
        if recipe.cutout:
            pixels_B3SS = cut_out(pixels_B3SS, draws.centre_2N, recipe.cutout, recipe.fill_3)
        return pixels_B3SS


def crop_flip(padded_NSS3: Tensor, size: int, rows_B: Tensor, draws: Draws) -> Tensor:
    """Crops of rows of padded images (N, S + 2p, S + 2p, 3) as (B, 3, S, S), channels last in memory; a draw for each of B."""
    side = padded_NSS3.shape[1]
    offsets_S = torch.arange(size)
    y_BS = draws.top_N[:, None] + offsets_S
    x_BS = draws.left_N[:, None] + torch.where(draws.flip_N[:, None], size - 1 - offsets_S, offsets_S)
    flat_BSS = (rows_B[:, None, None] * side + y_BS[:, :, None]) * side + x_BS[:, None, :]
    pixels_BSS3 = padded_NSS3.view(-1, 3)[flat_BSS.view(-1)].view(len(rows_B), size, size, 3)
    return pixels_BSS3.permute(0, 3, 1, 2)


def clean(size: int, resize: int, interpolation: str = "bilinear", fit: str = "crop") -> v2.Compose:
    """PIL image -> uint8 (3, S, S): the shorter side to `resize` pixels, then the centre; an image of that size is untouched.

    With `fit` "stretch" the whole image becomes S x S, whatever its shape.
    """
    mode = v2.InterpolationMode(interpolation)
    if fit == "stretch":
        return v2.Compose([v2.Resize((size, size), mode), v2.PILToTensor()])
    return v2.Compose([v2.Resize(resize, mode), v2.CenterCrop(size), v2.PILToTensor()])


def resized_crop(size: int, interpolation: str = "bilinear") -> v2.Compose:
    """PIL image -> uint8 (3, S, S), drawn from torch's global generator."""
    crop = v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode(interpolation))
    steps = [crop, v2.RandomHorizontalFlip(), v2.ColorJitter(JITTER, JITTER, JITTER)]
    return v2.Compose([*steps, v2.PILToTensor()])


def describe(recipe: Recipe, size: int) -> dict[str, float | int | str | bool]:
    """What a recipe does, as a cache's identity states it; a policy or cutout stands there only where there is one."""
    described: dict[str, float | int | str | bool] = {"crop": "none"}
    if recipe.crop == "resized-crop":
        described = {"crop": "resized", "scale": "0.08-1", "ratio": "3/4-4/3", "flip": True, "jitter": JITTER}
    elif recipe.crop != "none":
        described = {"crop": "padded", "padding": padding(size), "flip": recipe.crop == "crop-flip"}
    if recipe.policy:
        described |= {"policy": recipe.policy.name, "operations": recipe.policy.operations}
        described |= {} if recipe.policy.level is None else {"magnitude": recipe.policy.level}
    return described | ({"cutout": recipe.cutout} if recipe.cutout else {})


def draw_centres(rows: int, size: int, source: torch.Generator) -> Tensor:
    """Row and column of each square's centre, (2, N): any pixel, so that a square may reach over the border."""
    return torch.randint(size, (2, rows), generator=source)


def cut_out(images_B3SS: Tensor, centre_2B: Tensor, side: int, fill_3: Sequence[int]) -> Tensor:
    """A square of `side` pixels becomes `fill_3`: it starts `side // 2` pixels above and left of the centre."""
    first_2B1 = centre_2B[:, :, None] - side // 2
    pixel_S = torch.arange(images_B3SS.shape[-1])
    row_BS, column_BS = (pixel_S >= first_2B1) & (pixel_S < first_2B1 + side)
    inside_B1SS = (row_BS[:, :, None] & column_BS[:, None, :])[:, None]
    return images_B3SS.where(~inside_B1SS, torch.tensor(fill_3, dtype=torch.uint8).view(3, 1, 1))


def normalise(pixels_B3SS: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(pixels / 255 - mean) / std, float32 (B, 3, S, S) of the same memory format and device."""
    scale_311 = 1 / (255 * torch.tensor(std, device=pixels_B3SS.device).view(3, 1, 1))
    shift_311 = (torch.tensor(mean, device=pixels_B3SS.device) / torch.tensor(std, device=pixels_B3SS.device)).view(
        3, 1, 1
    )
    return pixels_B3SS.float().mul_(scale_311).sub_(shift_311)
