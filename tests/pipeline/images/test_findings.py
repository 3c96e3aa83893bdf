"""Images in two splits, a test split held out, settings left at CIFAR's, and all that is broken: said before work begins."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_images import error_of, png, settings, write_folder, write_parquet

from pipeline.errors import DataError
from pipeline.images.dataset import load
from pipeline.settings.load import load as load_settings


def test_the_same_images_in_train_and_test_are_counted_and_named(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 3, "b": 2})
    test = write_folder(tmp_path / "test", {"a": 1, "b": 1})
    (tmp_path / "test" / "a" / "new.png").write_bytes(png(77))
    load(settings("folder", train=train, test=test))
    found = capsys.readouterr().err
    assert (
        "data.test: 2 of 3 images are training images too: a/0.png = a/0.png, b/0.png = a/0.png; figures on them say nothing "
        "of new images\n"
    ) in found
    assert "data.train: 2 images stand there under more than one class: a/0.png = b/0.png, a/1.png = b/1.png\n" in found


def test_of_equal_images_two_of_different_classes_are_named(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    for name in ("a/1.png", "b/0.png"):
        (tmp_path / "train" / name).write_bytes((tmp_path / "train" / "a" / "0.png").read_bytes())
    load(settings("folder", train=train, test=train))
    said = capsys.readouterr().err
    assert "data.train: 1 images stand there under more than one class: a/0.png = b/0.png\n" in said


def test_splits_without_common_images_are_described_and_nothing_more(tmp_path, capsys):
    train = write_parquet(tmp_path / "train.parquet", ["a", "b"])
    test = write_parquet(tmp_path / "test.parquet", ["a", "b"], first=9)
    load(settings("parquet", train=train, test=test, val=test, mean=[0.5] * 3, std=[0.5] * 3))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "parquet: 2 classes; train 2, val 2, test 2 images",
        "training images a class: 1 to 1, median 1, imbalance factor 1.0; 0 many-shot (> 1), 2 medium, 0 few (< 1)",
        "sizes of 2 images: 8 x 8; modes: RGB 100 %",
    ]


def test_a_test_split_that_is_held_out_is_said(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 10, "b": 5})
    load(settings("folder", train=train))
    said = "data.test is empty: 3 of 15 training images, a share of 0.2 of each class, are held out as the test split"
    assert f"{said}\n" in capsys.readouterr().err
    load(settings("folder", train=train, val=train))
    assert f"{said} (data.val stays val)\n" in capsys.readouterr().err
    load(settings("digits"))
    assert "held out" not in capsys.readouterr().err


def test_mean_and_std_left_at_cifar_s_are_named_with_the_images_own(tmp_path, capsys):
    def folder(name, side):
        for label in ("a", "b"):
            (tmp_path / name / label).mkdir(parents=True)
            for row in range(3):
                image = Image.new("RGB", (side, side), (51 * row, 102, 255))
                image.save(tmp_path / name / label / f"{row}.png")
        return str(tmp_path / name)

    train = folder("other", 40)
    load(settings("folder", train=train, test=train))
    assert (
        "data.mean and data.std: left at CIFAR's; 6 training images here are near --set data.mean='[0.200, 0.400, 1.000]' "
        "--set data.std='[0.163, 0.000, 0.000]'\n"
    ) in capsys.readouterr().err
    load(settings("folder", train=train, test=train, mean=[0.2, 0.4, 0.9]))
    assert "data.std: left at CIFAR's" in capsys.readouterr().err
    load(settings("folder", train=train, test=train, mean=[0.2, 0.4, 0.9], std=[0.2, 0.2, 0.2]))
    assert "CIFAR" not in capsys.readouterr().err
    like_cifar = folder("cifar", 32)
    load(settings("folder", train=like_cifar, test=like_cifar))
    assert "CIFAR" not in capsys.readouterr().err


def test_all_broken_images_are_named_up_to_twenty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = write_folder(tmp_path / "train", {"a": 30, "b": 4})
    for row in range(30):
        (tmp_path / "train" / "a" / f"{row}.png").write_bytes(b"broken")
    for ram_limit in (1.0, 1e-9):
        found = load(settings("folder", train=train, test=train, ram_limit=ram_limit))
        with pytest.raises(DataError) as error:
            found.splits["train"].images.prepare()
        text = str(error.value)
        assert text.startswith("30 images cannot be decoded: a/0.png (not an image of BMP, GIF, ")
        assert text.count(".png (") == 20
        listed = re.search(
            r" and 10 more \(all in (\S+)\); replace them, or leave such images out with --set data.on_bad=skip$", text
        )
        assert Path(listed[1]).read_text().count("\n") == 30


def test_of_many_images_left_out_twenty_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = write_folder(tmp_path / "train", {"a": 30, "b": 4})
    for row in range(25):
        (tmp_path / "train" / "a" / f"{row}.png").write_bytes(b"broken")
    test = write_folder(tmp_path / "test", {"a": 1, "b": 1})
    found = load(settings("folder", train=train, test=test, on_bad="skip", bad_limit=1))
    assert len(found.skipped) == 25
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == 21
    place = tmp_path / "runs" / "bad-images.txt"
    assert lines[-1] == f"left out: 5 more of data.train (all in {place})"
    assert place.read_text().startswith("data.train: a/0.png (not an image of BMP")


def test_more_broken_images_than_the_limit_are_refused(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 8, "b": 4})
    for row in range(2):
        (tmp_path / "train" / "a" / f"{row}.png").write_bytes(b"broken")
    assert load(settings("folder", train=train, test=train, on_bad="skip", bad_limit=0.2)).counts() == [6, 4]
    text = str(error_of(settings("folder", train=train, test=train, on_bad="skip")))
    assert text.startswith(
        "data.train: 2 of 12 images cannot be decoded, at most a share of 0.1 may be left out: a/0.png (not an image of BMP"
    )
    assert text.endswith("; replace them, or allow more with --set data.bad_limit=SHARE")
    for row in range(8):
        (tmp_path / "train" / "a" / f"{row}.png").write_bytes(b"broken")
    text = str(error_of(settings("folder", train=train, test=train, on_bad="skip")))
    assert text.count(".png (") == 8


def test_settings_of_earlier_versions_are_read():
    for written, read in (("skip", "skip"), ("error", "fail")):
        assert load_settings(base=("cache", {"data": {"broken": written}})).settings.data.on_bad == read


def test_a_split_of_broken_images_alone(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    test = write_folder(tmp_path / "test", {"a": 1})
    (tmp_path / "test" / "a" / "0.png").write_bytes(b"broken")
    assert str(error_of(settings("folder", train=train, test=test, on_bad="skip", bad_limit=1))) == (
        "data.test: every image is broken: a/0.png (not an image of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP)"
    )


def test_all_classes_of_one_image_and_of_none_are_named_up_to_twenty(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 3, "b": 1, "c": 1})
    assert load(settings("folder", train=train)).counts() == [2, 1, 1]
    many = write_folder(tmp_path / "many", {f"c{number:02}": 1 for number in range(25)})
    assert "class 19 (c19) and 5 more: wanted at least 2 images" in str(error_of(settings("folder", train=many)))
    none = write_folder(tmp_path / "none", {"a": 3, "b": 0, "c": 0})
    assert str(error_of(settings("folder", train=none, test=train))) == (
        "class 1 (b), class 2 (c): no training image (2 of 3 classes have none); add images, or take the class out of labels "
        "and class names"
    )


def test_images_of_a_data_set_have_one_digest_each(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 3, "b": 2})
    found = load(settings("folder", train=train, test=train))
    assert np.unique([len(digest) for digest in found.splits["train"].digests]).tolist() == [32]
