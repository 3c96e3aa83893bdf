"""The test images that an exported file is checked on."""

from types import SimpleNamespace

import numpy as np

from pipeline.exporting.check import CHECKED, sampled_test_images
from pipeline.images.sources import load_source
from pipeline.images.splits import with_test_split
from pipeline.progress import collected
from pipeline.settings.stage1 import Data


def manifest(**sections):
    """What `sampled_test_images` asks of a manifest."""
    return SimpleNamespace(provenance=SimpleNamespace(settings=sections))


def test_the_images_are_those_of_the_test_split_whatever_is_recorded_of_the_long_tail():
    data = Data(test_share=0.4)
    raw = with_test_split(load_source(data), data).splits["test"]
    images = sampled_test_images(manifest(data={"test_share": 0.4}, longtail={"profile": "of a later version"}))
    assert len(images) == CHECKED
    assert np.array_equal(images[0], raw.take(np.array([0]))[0])
    assert np.array_equal(images[-1], raw.take(np.array([len(raw.labels_N) - 1]))[0])
    assert len(sampled_test_images(manifest(data={"test_share": 0.4, "broken": "error"}))) == CHECKED


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a download would fail, and say something else
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with collected() as notes:
        images = sampled_test_images(manifest(data={"source": "cifar10", "train": str(tmp_path), "download": True}))
    assert images == []
    start = f"the test images are not at hand: data.train {tmp_path}: wanted the folder of torchvision's CIFAR10 (Dataset not found"
    assert [note[: len(start)] for note in notes] == [start]
