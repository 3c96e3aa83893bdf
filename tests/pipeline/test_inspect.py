"""What `inspect` finds, and every alarm on data that deserves it."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.images.dataset import load
from pipeline.images.looking import hashes, look_alike
from pipeline.inspect import inspect_cache, inspect_images
from pipeline.report.inspection import inspection_text
from pipeline.report.layout import lines_of
from pipeline.settings import Settings
from tests.support.in_process import run
from tests.support.toy_images import png, settings


def photo(number, size=40, quality=95):
    """A smooth picture, so that JPEG changes its bytes and little else."""
    grid = np.random.default_rng(number).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def kinds(inspection):
    return {alarm.kind: alarm for alarm in inspection.alarms}


@pytest.fixture
def tail(tmp_path):
    """Two splits whose images all differ: 12, 6 and 2 training images a class."""
    for split, counts in (("train", {"a": 12, "b": 6, "c": 2}), ("test", {"a": 2, "b": 2, "c": 2})):
        for shift, (name, count) in enumerate(counts.items()):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for row in range(count):
                (folder / f"{row}.jpg").write_bytes(photo(1000 * (split == "test") + 100 * shift + row))
    return tmp_path


def inspected(root, **data):
    return inspect_images(settings("folder", train=str(root / "train"), test=str(root / "test"), **data))


def test_what_is_found(tail):
    found = inspected(tail)
    assert found.splits == {"train": 20, "test": 6}
    assert found.counts == (12, 6, 2)
    assert found.imbalance_factor == 6
    assert found.sizes == {"smallest": (40, 40), "median": (40, 40), "largest": (40, 40)}
    assert found.modes == {"RGB": 26}
    assert found.head == (
        "folder: 3 classes; train 20, test 6 images",
        "training images a class: 2 to 12, median 6, imbalance factor 6.0; 1 many-shot (> 6), 1 medium, 1 few (< 6)",
        "sizes of 26 images: 40 x 40; modes: RGB 100 %",
    )
    assert kinds(found).keys() == {"near-empty classes"}
    assert kinds(found)["near-empty classes"].examples == ("c (2)",)


def test_images_in_two_splits_and_under_two_labels(tail):
    (tail / "test" / "a" / "0.jpg").write_bytes(photo(3))
    (tail / "test" / "b" / "0.jpg").write_bytes(photo(5, quality=80))
    (tail / "train" / "b" / "copy.jpg").write_bytes(photo(7))
    found = kinds(inspected(tail))
    assert found["in two splits"].examples == ("a/0.jpg = a/3.jpg",)
    assert found["look alike"].examples == ("b/0.jpg ~ a/5.jpg",)
    assert found["two labels"].examples == ("a/7.jpg = b/copy.jpg",)


def test_of_equal_images_two_of_different_labels_are_named(tail):
    for name in ("a/8.jpg", "b/copy.jpg"):
        (tail / "train" / name).write_bytes((tail / "train" / "a" / "7.jpg").read_bytes())
    found = kinds(inspected(tail))
    assert found["copies"].examples == ("a/7.jpg = a/8.jpg",)
    assert found["two labels"].examples == ("a/7.jpg = b/copy.jpg",)


def test_test_equal_to_train(tail):
    found = kinds(inspect_images(settings("folder", train=str(tail / "train"), test=str(tail / "train"))))
    assert found["test equals train"].count == 20


def test_broken_and_stray_files_and_names_alike(tail):
    for row in range(25):
        (tail / "train" / "a" / f"x{row}.png").write_bytes(b"no image")
    (tail / "train" / "a" / "notes.txt").write_text("x")
    for split in ("train", "test"):
        (tail / split / "A ").mkdir()
    (tail / "train" / "A " / "0.jpg").write_bytes(photo(500))
    inspection = inspected(tail)
    found = kinds(inspection)
    assert found["unreadable"].count == 25
    assert len(found["unreadable"].examples) == 20
    assert found["names"].examples == ("'A ' = 'a'",)
    assert found["no images in test"].examples == ("A ",)
    assert "notes.txt" not in found["source"].text
    assert "passed over in a: 1 .txt" in found["source"].text
    text = "\n".join(lines_of(inspection_text(inspection), None))
    assert text.count("(not an image of") == 20
    assert " and 5 more" in text
    assert f"\n{len(inspection.alarms)} alarms\n" in text
    assert "\n- no images in test (1): classes without an image in the split test: A \n" in text


def test_a_balanced_set_says_so(tmp_path):
    for split, first in (("train", 0), ("test", 50)):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for row in range(5):
                (tmp_path / split / name / f"{row}.png").write_bytes(png(first + row + 10 * ord(name)))
    inspection = inspected(tmp_path)
    text = "the imbalance factor is 1.0: on balanced classes, long-tail methods have nothing to gain"
    assert kinds(inspection)["balanced"].text == text
    assert [part for part in inspection_text(inspection) if str(part).endswith(text)] == [f"- balanced (2): {text}"]


def test_a_class_without_training_images(tail):
    (tail / "train" / "d").mkdir()
    (tail / "test" / "d").mkdir()
    found = kinds(inspected(tail))
    assert found["no training images"].examples == ("d",)


def test_hashes_tell_images_apart_and_know_small_changes():
    looks = np.random.default_rng(0).integers(0, 256, (50, 16, 17), dtype=np.uint8)
    assert hashes(looks).shape == (50, 4)
    near = looks.copy()
    near[:, 0, 0] ^= 1
    assert look_alike(looks, near) == [(row, row) for row in range(50)]
    assert look_alike(looks[:25], near[25:]) == []
    flat = np.full((2, 16, 17), 90, dtype=np.uint8)
    assert look_alike(flat, flat) == []


def test_caches_are_looked_at_too(cache):
    found = inspect_cache(cache, Settings())
    assert found.format == "cache"
    assert found.splits["train"] == sum(found.counts)
    assert len(found.head) == 3


def test_the_command_on_a_folder(tail, monkeypatch):
    ended = run(monkeypatch, "inspect", str(tail), "--json", "-q")
    assert ended.code == 0
    assert ended.json["splits"] == {"train": 20, "test": 6}
    assert run(monkeypatch, "inspect", str(tail), "--config", "digits-lt").code == 2
    ended = run(monkeypatch, "inspect")
    assert ended.code == 2
    assert "a config, a folder or table of images, or --cache is wanted" in ended.err


def test_the_splits_are_those_that_training_has(tail):
    longtail = {"profile": "exponential", "imbalance_factor": 4, "n_max": 4}
    chosen = settings("folder", longtail, train=str(tail / "train"), test_share=0.4, val_share=0.25)
    trained = load(chosen)
    looked_at = inspect_images(chosen)
    assert list(looked_at.splits.items()) == [(name, len(split)) for name, split in trained.splits.items()]
    assert looked_at.splits["val"] > 0
    assert list(looked_at.counts) == trained.counts()
