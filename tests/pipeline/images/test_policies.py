"""Each batched operation against torchvision's on one image; spaces, draws, Cutout; training with them."""

import itertools
import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from pipeline.artefacts import tensors as checkpoint
from pipeline.images.transforms.operations import OPERATIONS
from pipeline.images.transforms.policies import LEVELS, SIGNED, Policy, draw_operations, magnitudes, transform
from pipeline.images.transforms.recipe import Recipe, cut_out, draw_centres
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.settings.load import load
from pipeline.stage1_backbone import train_backbone

SIZE, ROWS = 32, 2 * LEVELS
NAMES = list(OPERATIONS)
GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
EXACT = ("Identity", "Posterize", "Solarize", "AutoContrast", "Equalize")
AUGMENTS = {"trivialaugment": v2.TrivialAugmentWide, "randaugment": v2.RandAugment}


def _images():
    """Noise, gradients and a flat one: (B, 3, S, S)."""
    source = np.random.default_rng(0)
    noise = source.integers(10, 240, (ROWS, 3, SIZE, SIZE))
    ramp = np.linspace(40, 200, SIZE)[None, None, None] + source.normal(0, 8, (ROWS, 3, SIZE, SIZE))
    mixed = np.where(np.arange(ROWS)[:, None, None, None] % 2, noise, ramp).clip(0, 255).astype(np.uint8)
    mixed[4] = 77
    return torch.from_numpy(mixed)


IMAGES = _images()


def _reference(name, space, level, size=SIZE):
    """torchvision's magnitude of one level, without the float32 noise that makes 15 pixels of 16 and 120 of threshold 119."""
    values = AUGMENTS[space]._AUGMENTATION_SPACE[name][0](LEVELS, size, size)
    value = 0.0 if values is None else float(values[level])
    unit = {"TranslateX": 1, "TranslateY": 1, "Solarize": 255}.get(name)
    return round(value * unit, 4) / unit if unit else value


def _one(image_3SS, name, magnitude):
    """torchvision's operation on one image, by its own dispatch."""
    return v2.RandAugment()._apply_image_or_video_transform(image_3SS, name, magnitude, F.InterpolationMode.NEAREST, {})


def _on_the_border(name, magnitude):
    """Pixels whose source lies midway between two, which float sums decide one way or the other: (S, S)."""
    centred = np.arange(SIZE) - (SIZE - 1) / 2
    x, y = np.meshgrid(centred, centred)
    angle = math.radians(magnitude)
    points = {
        "ShearX": [x + magnitude * (y + SIZE / 2)],
        "ShearY": [y + magnitude * (x + SIZE / 2)],
        "Rotate": [x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)],
    }.get(name, [])
    return np.any([np.abs(p - np.round(p)) < 1e-4 for p in points], axis=0) if points else np.zeros_like(x, dtype=bool)


@pytest.mark.parametrize("space", AUGMENTS)
@pytest.mark.parametrize("name", NAMES)
def test_operations_are_torchvision_s(name, space):
    level_B = torch.arange(ROWS) % LEVELS
    sign_B = 1 - 2 * (torch.arange(ROWS) >= LEVELS).double() if name in SIGNED else torch.ones(ROWS).double()
    magnitude_B = magnitudes(space, SIZE)[NAMES.index(name), level_B] * sign_B
    found_B3SS = OPERATIONS[name](IMAGES, magnitude_B)
    assert found_B3SS.dtype == torch.uint8
    moved = 0
    for row in range(ROWS):
        magnitude = _reference(name, space, int(level_B[row])) * float(sign_B[row])
        wanted_3SS = _one(IMAGES[row], name, magnitude)
        off_3SS = (found_B3SS[row].int() - wanted_3SS.int()).abs().numpy()
        if name in GEOMETRIC:
            assert not off_3SS[:, ~_on_the_border(name, magnitude)].any(), magnitude
        else:
            assert off_3SS.max() <= (0 if name in EXACT else 1), magnitude
        moved += not torch.equal(wanted_3SS, IMAGES[row])
    assert moved > ROWS / 2 or name == "Identity"


@pytest.mark.parametrize("space", AUGMENTS)
@pytest.mark.parametrize("size", [32, 224])
def test_spaces_are_torchvision_s(space, size):
    table_OK = magnitudes(space, size)
    assert set(AUGMENTS[space]._AUGMENTATION_SPACE) == set(NAMES)
    assert {name for name, (_, signed) in AUGMENTS[space]._AUGMENTATION_SPACE.items() if signed} == set(SIGNED)
    for name, found_K in zip(NAMES, table_OK, strict=True):
        scale = 255 if name == "Solarize" else 1
        wanted = [scale * _reference(name, space, level, size) for level in range(LEVELS)]
        np.testing.assert_allclose(found_K.numpy(), wanted, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("size", [7, 32])
def test_an_image_comes_out_the_same_alone_and_in_any_batch(size):
    images_B3SS = IMAGES[:, :, :size, :size].contiguous(memory_format=torch.channels_last)
    operation_LB, magnitude_LB = draw_operations(Policy("trivialaugment", 3), ROWS, size, generator(0, "test"))
    whole_B3SS = transform(images_B3SS, operation_LB, magnitude_LB)
    assert whole_B3SS.is_contiguous(memory_format=torch.channels_last)
    for row in range(ROWS):
        own = slice(row, row + 1)
        alone_13SS = transform(images_B3SS[own], operation_LB[:, own], magnitude_LB[:, own])
        assert torch.equal(alone_13SS[0], whole_B3SS[row])


def test_operations_follow_one_another():
    operation_LB = torch.tensor([[NAMES.index("Posterize")], [NAMES.index("TranslateX")]])
    found = transform(IMAGES[:1], operation_LB, torch.tensor([[2.0], [5.0]]))
    wanted = torch.zeros_like(IMAGES[:1])
    wanted[..., 5:] = IMAGES[:1, :, :, :-5] // 64 * 64
    assert torch.equal(found, wanted)


def test_trivialaugment_draws_every_operation_level_and_sign():
    operation_1N, magnitude_1N = draw_operations(Policy("trivialaugment"), 40_000, SIZE, generator(0, "test"))
    counts = torch.bincount(operation_1N[0], minlength=len(NAMES))
    assert counts.min() > 0.9 * 40_000 / len(NAMES)
    turned = magnitude_1N[operation_1N == NAMES.index("Rotate")]
    assert sorted(set(turned.abs().tolist())) == [4.5 * level for level in range(LEVELS)]
    assert 0.45 < float((turned < 0).double().mean()) < 0.52
    assert (magnitude_1N[operation_1N == NAMES.index("Solarize")] >= 0).all()


def test_randaugment_draws_n_operations_at_m():
    operation_LN, magnitude_LN = draw_operations(Policy("randaugment", 2, 9), 2000, SIZE, generator(0, "test"))
    assert operation_LN.shape == (2, 2000)
    assert not torch.equal(operation_LN[0], operation_LN[1])
    assert set(magnitude_LN[operation_LN == NAMES.index("Rotate")].tolist()) == {-9.0, 9.0}
    assert set(magnitude_LN[operation_LN == NAMES.index("Posterize")].tolist()) == {7.0}


def _reference_cut_out(image_3SS, row, column, side, fill):
    """DeVries and Taylor's code, with the fill that normalisation makes 0."""
    cut = image_3SS.copy()
    top, left = max(row - side // 2, 0), max(column - side // 2, 0)
    cut[:, top : row + side // 2, left : column + side // 2] = np.array(fill)[:, None, None]
    return cut


@pytest.mark.parametrize("side", [2, 16, 80])
def test_cutout_blanks_a_square_about_its_centre(side):
    centre_2B = draw_centres(ROWS, SIZE, generator(0, "test"))
    centre_2B[:, 0], centre_2B[:, 1] = 0, SIZE - 1
    found_B3SS = cut_out(IMAGES, centre_2B, side, (125, 123, 114))
    for row in range(ROWS):
        wanted = _reference_cut_out(IMAGES[row].numpy(), *centre_2B[:, row].tolist(), side, (125, 123, 114))
        assert (found_B3SS[row].numpy() == wanted).all()


def test_cutout_s_centres_are_all_pixels_and_odd_sides_are_kept():
    assert draw_centres(5000, 8, generator(0, "test")).unique().tolist() == list(range(8))
    found = cut_out(torch.ones(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([[4], [4]]), 3, (0, 0, 0))
    assert int((found == 0).sum()) == 3 * 9


def test_recipes_of_the_settings():
    assert Recipe.of(Settings()) == Recipe("crop-flip")
    assert Recipe.of(load("cifar10-lt+trivialaugment").settings) == Recipe("crop-flip", Policy("trivialaugment"))
    fill = (125, 123, 114)
    wanted = Recipe("crop-flip", Policy("randaugment", 2, 9), 16, fill)
    assert Recipe.of(load("cifar10-lt+randaugment+cutout").settings) == wanted


def test_training_sees_other_images_and_the_same_again(tmp_path):
    def weights(name, **stage1):
        settings = Settings.model_validate(
            {
                "backbone": {"name": "resnet20"},
                "data": {"image_size": 8},
                "longtail": {"profile": "exponential", "imbalance_factor": 1, "n_max": 10},
                "stage1": {"epochs": 1, "batch_size": 50, "device": "cpu", **stage1},
            }
        )
        return checkpoint.load(train_backbone(settings, tmp_path / name).folder / "backbone.safetensors")[0]

    plain = weights("plain")
    changes = [{"policy": "trivialaugment"}, {"policy": "randaugment"}, {"cutout": 4}]
    found = [weights(str(number), **change) for number, change in enumerate(changes)]
    for one, other in itertools.combinations([plain, *found], 2):
        assert any(not torch.equal(one[name], other[name]) for name in one)
    again = weights("again", **changes[0])
    assert all(torch.equal(found[0][name], again[name]) for name in again)
