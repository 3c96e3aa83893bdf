"""The views of a cache: which recipe each has, and what the moved ones show."""

import pytest
import torch
from small_runs import small

from pipeline.errors import ConfigError
from pipeline.images.dataset import load
from pipeline.images.transforms.policies import Policy
from pipeline.images.transforms.recipe import PLAIN, Recipe
from pipeline.images.transforms.views import CORNERS, described, recipes, shift
from pipeline.settings import Settings
from pipeline.settings.problems import validate
from pipeline.settings.stage1 import TEST_VIEWS


def settings(augmentation="crop-flip", policy="none", cutout=0, **extract):
    raw = small(augmentation=augmentation, policy=policy, cutout=cutout).model_dump()
    return Settings.model_validate(raw | {"extract": extract})


@pytest.mark.parametrize(
    ("view_policy", "wanted"),
    [
        ("training", Recipe("crop-flip", Policy("trivialaugment"), 3, (125, 123, 114))),
        ("flip-crop", Recipe("crop-flip")),
        ("trivialaugment", Recipe("crop-flip", Policy("trivialaugment"))),
        ("randaugment", Recipe("crop-flip", Policy("randaugment", 2, 9))),
    ],
)
def test_views_of_training_rows_follow_the_policy(view_policy, wanted):
    own = settings(policy="trivialaugment", cutout=3, views=2, view_policy=view_policy)
    assert recipes(own, "train") == [PLAIN, wanted, wanted]


def test_what_equals_the_training_recipe_has_its_key():
    plain, same = (settings(view_policy=policy) for policy in ("training", "flip-crop"))
    assert described(plain, 8) == described(same, 8) == {"crop": "padded", "padding": 1, "flip": True}


def test_views_of_images_that_training_leaves_as_they_are_would_be_copies():
    assert recipes(settings("none", views=3), "train") == [PLAIN]
    assert len(recipes(settings("none", views=3, view_policy="trivialaugment"), "train")) == 4


@pytest.mark.parametrize("augmentation", TEST_VIEWS)
def test_there_are_as_many_test_views_as_the_settings_allow(augmentation):
    most = TEST_VIEWS[augmentation]
    own = settings(augmentation, test_views=most)
    for split in ("test", "val"):
        crops = [recipe.fixed for recipe in recipes(own, split)]
        assert len(set(crops)) == most
        assert any(crop.mirrored for crop in crops[1:]) == (augmentation in ("crop-flip", "resized-crop"))
    if most < 10:
        with pytest.raises(ConfigError) as caught:
            validate(own.model_dump() | {"extract": {"test_views": most + 1}}, {}, [])
        assert str(caught.value).endswith(
            f"extract.test_views: wanted at most {most} where stage1.augmentation={augmentation}, found {most + 1}: images are "
            "moved and mirrored only as the backbone has seen them in training"
        )


def test_ten_views_are_two_of_the_middle_and_two_of_each_corner():
    assert sorted([(0, 0, False), *CORNERS]) == sorted(
        (down, right, mirrored)
        for down, right in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
        for mirrored in (False, True)
    )


def test_images_move_by_half_the_padding():
    assert [shift(size) for size in (4, 8, 32, 224)] == [1, 1, 2, 14]


@pytest.mark.parametrize("limit", [4.0, 1e-9], ids=["in RAM", "decoded when due"])
def test_moved_images_are_the_image_moved_and_mirrored_the_same_for_any_seed(limit):
    own = settings(test_views=4)
    own = own.model_copy(update={"data": own.data.model_copy(update={"ram_limit": limit})})
    test, rows = load(own).splits["test"], torch.tensor([5, 0, 3])
    clean, mirrored, up_left, down_right = (
        next(test.images.batches([rows], recipe, seed)) for seed, recipe in enumerate(recipes(own, "test"))
    )
    assert torch.equal(mirrored, clean.flip(3))
    assert torch.equal(
        up_left[:, :, 1:, 1:], clean[:, :, :-1, :-1]
    )  # the window goes up and left, the image down and right
    assert not up_left[:, :, 0].any()
    assert not up_left[:, :, :, 0].any()
    assert torch.equal(down_right.flip(3)[:, :, :-1, :-1], clean[:, :, 1:, 1:])
    assert described(own, 8)["test"] == "moved by 1, mirrored"
    assert described(settings("crop", test_views=2), 8)["test"] == "moved by 1"
