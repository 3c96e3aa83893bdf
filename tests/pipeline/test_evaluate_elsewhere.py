"""A finished classifier on other labelled images."""

import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cache import FeatureCache
from tests.support import in_process
from tests.support.finished_run import finished_run

CLASSES = ("ants", "birds", "cats")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of images, a backbone trained on it, its cache and a classifier."""
    return finished_run(tmp_path_factory.mktemp("made"), CLASSES, {"train": 12, "test": 7})


@pytest.fixture
def home(made, monkeypatch):
    monkeypatch.setenv("COATTAIL_RUNS", str(made["root"] / "runs"))
    monkeypatch.setenv("COATTAIL_STORES", str(made["root"] / "stores"))
    return made


def _evaluated(home, monkeypatch, *arguments):
    ended = in_process.run(monkeypatch, "evaluate", "--json", "--run", str(home["run"]), *map(str, arguments))
    assert ended.code == 0, ended.err
    return ended.json


def test_the_test_images_again_give_the_test_figures(home, monkeypatch):
    elsewhere, cached = _evaluated(home, monkeypatch, "--data", home["root"] / "test"), _evaluated(home, monkeypatch)
    for name in ("mean", "std", "per_class", "classes", "seeds", "digest", "predictions"):
        assert elsewhere[name] == cached[name]
    assert (elsewhere["images"], elsewhere["broken"], elsewhere["missing"]) == (21, {}, [])
    assert elsewhere["predictions"] is None, "those of the run's test rows, kept beside it, are not these"


def test_a_subset_of_the_classes_in_another_order_with_a_broken_image(home, monkeypatch, tmp_path):
    for place, name in enumerate(("cats", "birds")):  # as a folder, cats has number 1, which is birds' in the run
        shutil.copytree(home["root"] / "test" / name, tmp_path / "other" / name)
        for file in sorted((tmp_path / "other" / name).iterdir())[: 2 + place]:
            file.unlink()
    (tmp_path / "other" / "cats" / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    document = _evaluated(home, monkeypatch, "--data", tmp_path / "other")
    cache, tensors = FeatureCache.open(home["cache"]), load_file(home["run"] / "classifier.safetensors")
    paths, labels = cache.rows("test")["path"].to_list(), cache.labels("test")
    there = [row for row, path in enumerate(paths) if (tmp_path / "other" / path).is_file()]
    features_ND = torch.from_numpy(cache.features("test", "clean")[there]).float()
    right = [
        ((features_ND @ w.T + b).argmax(1).numpy() == labels[there]).mean()
        for w, b in zip(tensors["weight"], tensors["bias"], strict=True)
    ]
    assert document["images"] == len(there) == 9
    assert document["accuracy"] == pytest.approx(100 * np.mean(right))
    assert document["per_class"][0] is None
    assert document["missing"] == ["ants"]
    assert [name.rsplit("/")[-1] for name in document["broken"]] == ["cut.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--split", "val"], 1, "no split 'val', found train"),
        (["--prior", "0.5,0.5"], 2, "wanted 3 shares, one a class, found 2"),
    ],
)
def test_what_does_not_fit_is_said(home, monkeypatch, arguments, code, said):
    ended = in_process.run(
        monkeypatch, "evaluate", "--run", str(home["run"]), "--data", str(home["root"] / "test"), *arguments
    )
    assert ended.code == code
    assert said in ended.err


def test_a_class_that_the_run_does_not_know_is_named(home, monkeypatch, tmp_path):
    for name, own in (("ants", "ants"), ("dogs", "cats")):
        shutil.copytree(home["root"] / "test" / own, tmp_path / "other" / name)
    ended = in_process.run(monkeypatch, "evaluate", "--run", str(home["run"]), "--data", str(tmp_path / "other"))
    assert ended.code == 1
    assert (
        "--data other: wanted classes of the run by name, such as 'ants', 'birds', 'cats', found images of 'dogs' (7); rename "
        "these classes or take their images out" in ended.err
    )
