"""A share of the training images held out as the split `val`."""

import numpy as np
import pytest
from toy_images import error_of, settings, write_folder

from pipeline.errors import ConfigError
from pipeline.images.dataset import load
from pipeline.settings.load import load as load_settings


def test_a_share_of_the_training_images_is_held_out_and_a_class_of_one_keeps_its_image(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 20, "b": 5, "c": 1})
    test = write_folder(tmp_path / "test", {"a": 3})
    whole = load(settings("folder", train=train, test=test))
    found = load(settings("folder", train=train, test=test, val_share=0.2))
    assert list(found.splits) == ["train", "val", "test"]
    assert found.counts() == [16, 4, 1]
    assert np.bincount(found.splits["val"].labels_N, minlength=3).tolist() == [4, 1, 0]
    parts = [set(found.splits[name].sample_ids) for name in ("train", "val")]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == set(whole.splits["train"].sample_ids)
    assert found.splits["test"].sample_ids == whole.splits["test"].sample_ids


def test_it_is_held_out_after_the_test_split_and_the_long_tailed_draw():
    longtail = {"profile": "exponential", "imbalance_factor": 10, "n_max": 40}
    whole, found = load(settings("digits", longtail)), load(settings("digits", longtail, val_share=0.25))
    assert found.splits["test"].content_digest() == whole.splits["test"].content_digest()
    held_out = np.bincount(found.splits["val"].labels_N)
    assert (held_out + found.counts()).tolist() == whole.counts()
    assert held_out.tolist() == [round(0.25 * n) for n in whole.counts()]


def test_a_val_split_is_given_or_held_out_and_wants_a_class_of_two(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 1, "b": 1})
    found = error_of(settings("folder", train=train, test=train, val_share=0.2))
    assert str(found) == "data.val_share: wanted a class of at least 2 training images, found none; set it to 0"
    with pytest.raises(ConfigError) as error:
        load_settings(overrides=["data.val=/photos", "data.val_share=0.1"])
    assert str(error.value) == (
        "settings: data.val_share is for an empty data.val, found data.val_share=0.1 and /photos; leave one out"
    )
