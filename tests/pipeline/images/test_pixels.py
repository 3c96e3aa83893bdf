"""Batches from RAM and from a DataLoader: the same clean pixels, views that hang on seed and row alone."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.errors import DataError
from pipeline.images.lazy import LazyImages
from pipeline.images.pixels import Geometry, RamImages, fits_in_ram
from pipeline.images.transforms.policies import Policy
from pipeline.images.transforms.recipe import PLAIN, Recipe, crop_flip, draw, normalise, padding
from pipeline.rng import generator

SIZE, ROWS = 16, 9
PIXELS = np.random.default_rng(0).integers(0, 256, (ROWS, SIZE, SIZE, 3), dtype=np.uint8)
NAMES = [f"image {row}" for row in range(ROWS)]
GEOMETRY = Geometry(SIZE, SIZE)
RECIPES = [
    Recipe("crop"),
    Recipe("crop-flip"),
    Recipe("crop-flip", Policy("trivialaugment")),
    Recipe("none", Policy("randaugment", 2, 9), 6, (125, 123, 114)),
]


def _both(items=None, geometry=GEOMETRY):
    items = list(PIXELS) if items is None else items
    return [RamImages(items, NAMES, geometry), LazyImages(items, NAMES, geometry, workers=0)]


def _all(images, recipe=PLAIN, seed=0, size=4):
    return torch.cat(list(images.batches(torch.arange(len(images)).split(size), recipe, seed)))


@pytest.mark.parametrize("images", _both(), ids=["ram", "lazy"])
def test_clean_pixels_are_the_originals_channels_last(images):
    assert torch.equal(_all(images).permute(0, 2, 3, 1), torch.from_numpy(PIXELS))
    (batch,) = images.batches([torch.tensor([3, 1])], PLAIN, 0)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch[0].permute(1, 2, 0), torch.from_numpy(PIXELS[3]))


def test_both_resize_other_sizes_alike():
    items = [Image.fromarray(PIXELS[row]).resize((40, 24 + row)) for row in range(ROWS)]
    ram, lazy = _both([np.asarray(item) for item in items])
    assert torch.equal(_all(ram), _all(lazy))
    assert _all(ram).shape == (ROWS, 3, SIZE, SIZE)


@pytest.mark.parametrize("images", _both(), ids=["ram", "lazy"])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_row_s_view_hangs_on_seed_and_row_not_on_batches(images, recipe):
    whole = _all(images, recipe, seed=5, size=ROWS)
    assert torch.equal(_all(images, recipe, seed=5, size=2), whole)
    assert not torch.equal(_all(images, recipe, seed=6, size=ROWS), whole)
    (batch,) = images.batches([torch.tensor([7, 2])], recipe, 5)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, whole[[7, 2]])


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_an_image_drawn_twice_has_two_views_whether_or_not_its_first_was_drawn_alone(recipe):
    (ram, lazy), rows = _both(), torch.arange(ROWS).repeat(2)
    repeats = torch.arange(2).repeat_interleave(ROWS)
    (together,) = ram.batches([rows], recipe, 5, [repeats])
    for images in (ram, lazy):
        apart = images.batches(rows.split(ROWS), recipe, 5, repeats.split(ROWS))
        assert torch.equal(torch.cat(list(apart)), together)
    assert torch.equal(together[:ROWS], _all(ram, recipe, seed=5))
    assert not torch.equal(together[:ROWS], together[ROWS:])


def test_crop_and_flip_are_drawn_first_of_their_own_generator():
    """What a cache's views and a training are made of: never to change."""
    source = generator(5, "augment")
    top_N, left_N = torch.randint(0, 5, (2, ROWS), generator=source)
    flip_N = torch.randint(0, 2, (ROWS,), generator=source).bool()
    for recipe in (Recipe("crop-flip"), Recipe("crop-flip", Policy("trivialaugment"), 4)):
        draws = draw(recipe, ROWS, SIZE, 5, 0)
        for found, wanted in ((draws.top_N, top_N), (draws.left_N, left_N), (draws.flip_N, flip_N)):
            assert torch.equal(found, wanted)


def test_workers_change_nothing_and_leave_the_global_generator_alone():
    lazy = LazyImages(list(PIXELS), NAMES, Geometry(SIZE, 18), workers=2)
    alone = LazyImages(list(PIXELS), NAMES, Geometry(SIZE, 18), workers=0)
    recipe = Recipe("resized-crop", Policy("randaugment", 2, 9), 4)
    state = torch.get_rng_state()
    views = _all(alone, recipe, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(_all(lazy, recipe, 3), views)


def _reference_crop_flip(image_HW3, pad, top, left, flip):
    padded = np.pad(image_HW3, ((pad, pad), (pad, pad), (0, 0)))
    crop = padded[top : top + SIZE, left : left + SIZE]
    return crop[:, ::-1] if flip else crop


def test_batched_crop_and_flip_are_those_of_one_image_at_a_time():
    pad = padding(SIZE)
    draws = draw(Recipe("crop-flip"), ROWS, SIZE, 1, 0)
    padded = torch.nn.functional.pad(torch.from_numpy(PIXELS), (0, 0, pad, pad, pad, pad))
    found = crop_flip(padded, SIZE, torch.arange(ROWS), draws)
    for row in range(ROWS):
        top, left, flip = (int(part[row]) for part in (draws.top_N, draws.left_N, draws.flip_N))
        wanted = _reference_crop_flip(PIXELS[row], pad, top, left, flip)
        assert (found[row].permute(1, 2, 0).numpy() == wanted).all()


def test_draws_cover_every_offset_and_both_sides():
    draws = draw(Recipe("crop-flip"), 2000, 32, 0, 0)
    assert padding(32) == 4
    assert draws.top_N.unique().tolist() == draws.left_N.unique().tolist() == list(range(9))
    assert 900 < int(draws.flip_N.sum()) < 1100
    assert not draw(Recipe("crop"), 2000, 32, 0, 0).flip_N.any()


def test_a_broken_image_is_named_before_the_first_batch():
    items = [*PIXELS[:4], b"no image", *PIXELS[5:]]
    for images in _both(items):
        with pytest.raises(DataError) as error:
            images.prepare()
        assert str(error.value) == (
            "image image 4: cannot be decoded (not an image of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP); replace it, or leave such "
            "images out with --set data.on_bad=skip"
        )


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_cut_short_is_named_by_the_worker_that_meets_it(workers):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    items = [*PIXELS[:8], file.getvalue()[:2000]]
    lazy = LazyImages(items, NAMES, GEOMETRY, workers)
    lazy.prepare()
    with pytest.raises(DataError, match=r"^image image 8: cannot be decoded \(.+\); replace it, or"):
        _all(lazy)


def test_photographs_are_resized_beyond_the_crop():
    assert Geometry.of(224, "resized-crop") == Geometry(224, 256)
    assert Geometry.of(32, "crop-flip") == Geometry(32, 32)


def test_ram_limit_counts_padded_pixels():
    assert fits_in_ram(1000, 32, 1000 * 40 * 40 * 3 / 2**30)
    assert not fits_in_ram(1001, 32, 1000 * 40 * 40 * 3 / 2**30)


def test_normalise_is_the_textbook_formula():
    pixels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    wanted = (pixels.double() / 255 - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(
        3, 1, 1
    )
    found = normalise(pixels, mean, std)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("recipe", [PLAIN, *RECIPES], ids=str)
def test_images_from_ram_and_decoded_as_used_are_the_same(recipe):
    """One key must not name two caches, so where the pixels lie must not change what is drawn."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 16, 16, 3), dtype=np.uint8)
    items, names = list(pixels), [str(row) for row in range(6)]
    geometry = Geometry(16, 16)
    rows = [torch.tensor([4, 1]), torch.tensor([0, 2, 5])]
    ram = RamImages(items, names, geometry).batches(rows, recipe, 3)
    lazy = LazyImages(items, names, geometry, workers=0).batches(rows, recipe, 3)
    for one, other in zip(ram, lazy, strict=True):
        assert torch.equal(one, other)
