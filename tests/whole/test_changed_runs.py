"""Weights and figures of a finished run that were changed afterwards are noticed by every command that reads them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import write_cache
from small_runs import small

from cache import FeatureCache
from pipeline import retrain
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.errors import DataError
from pipeline.settings.load import load
from pipeline.stage1_backbone import BackboneRun, finished, stage1, train_backbone
from pipeline.stage1_extract import extract
from pipeline.stage2_stg import train_stg

FAST = ["stg.epochs=1", "stg.head_classes=2", "retrain.epochs=1", "longtail.few_below=10", "longtail.many_above=100"]
AGAIN = "delete the folder and run the command again"


def flip_signs(path: Path, name: str) -> str:
    """Flips up to 200 sign bits of a tensor in a file; what is said of that."""
    tensors, metadata = checkpoint.load(path)
    before = checkpoint.digest(tensors)
    tensors[name].view(torch.int32).view(-1)[:200] ^= -(2**31)
    checkpoint.save(path, tensors, metadata)
    after = checkpoint.digest(checkpoint.load(path)[0])
    return (
        f"{path}: changed after it was written: wanted tensors of digest {before[:12]!r}, found {after[:12]!r}; {AGAIN}"
    )


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(DataError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def run(tmp_path) -> BackboneRun:
    return stage1(small(epochs=1), tmp_path / "runs")


@pytest.fixture
def blobs(tmp_path) -> FeatureCache:
    return write_cache(tmp_path / "blobs")


def test_a_backbone(run, tmp_path):
    said = flip_signs(run.folder / "backbone.safetensors", "backbone.layer1.0.conv1.weight")
    assert refusal(lambda: finished(small(epochs=1), tmp_path / "runs", run.folder)) == said
    assert refusal(lambda: train_backbone(small(epochs=1), run.folder)) == said
    # Changed between being found and being read.
    assert refusal(lambda: extract(small(), run, tmp_path / "stores")) == said


def test_extract_of_a_changed_backbone(run, coattail, tmp_path):
    said = flip_signs(run.folder / "backbone.safetensors", "backbone.layer1.0.conv1.weight")
    done = coattail("extract", "--config", "digits-lt", "--backbone", str(run.folder))
    assert (done.code, done.out, done.err) == (1, "", f"coattail: {said}\n")
    assert not (tmp_path / "stores").exists()


def test_a_generator(blobs, tmp_path):
    settings = load(overrides=FAST).settings
    folder, _ = train_stg(settings, blobs, tmp_path)
    said = flip_signs(folder / "stg.safetensors", "stg.tokens_HD")
    assert refusal(lambda: train_stg(settings, blobs, tmp_path)) == said
    assert refusal(lambda: retrain(settings, blobs, tmp_path)) == said
    assert refusal(lambda: retrain(settings, blobs, tmp_path, folder)) == said


def test_a_classifier_is_proved_before_it_is_said_to_be_done(blobs, tmp_path):
    settings = load(overrides=[*FAST, "retrain.augmentation=none"]).settings
    folder, _ = retrain(settings, blobs, tmp_path)
    said = flip_signs(folder / "classifier.safetensors", "weight")
    assert refusal(lambda: retrain(settings, blobs, tmp_path)) == said


def change(folder: Path, **values: Any) -> None:
    document = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(document | values))


@pytest.mark.parametrize("values", [{"accuracy": 99.9}, {"digest": "0" * 64}, {"surplus": 1}, {"seconds": 0.25}])
def test_a_changed_figure(run, blobs, tmp_path, values):
    settings = load(overrides=[*FAST, "retrain.augmentation=none"]).settings
    folder, _ = retrain(settings, blobs, tmp_path)
    for changed, read in (
        (run.folder, lambda: finished(small(), tmp_path, run.folder)),
        (folder, lambda: retrain(settings, blobs, tmp_path)),
    ):
        change(changed, **values)
        said = refusal(read)
        assert said.startswith(f"{changed}/metrics.json: changed after it was written: wanted the checksum '")
        assert said.endswith(f"; {AGAIN}")


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"accuracy": -5.0}, "accuracy: Input should be greater than or equal to 0"),
        ({"accuracy": 1e300}, "accuracy: Input should be less than or equal to 100.0001"),
        ({"ece": float("nan")}, "ece: Input should be a finite number"),
        ({"per_class": [101.0]}, "per_class.0: Input should be less than or equal to 100.0001"),
        ({"counts": [-1]}, "counts.0: Input should be greater than or equal to 0"),
        ({"digest": "x"}, "digest: String should match pattern '^[0-9a-f]{64}$'"),
        ({"seconds": -1.0}, "seconds: Input should be greater than or equal to 0"),
    ],
)
def test_the_ranges_of_figures_hold_without_a_checksum_too(run, tmp_path, values, problem):
    document = json.loads((run.folder / "metrics.json").read_text())
    del document["checksum"]
    (run.folder / "metrics.json").write_text(json.dumps(document))
    assert finished(small(), tmp_path, run.folder).metrics == run.metrics  # as an earlier version leaves it
    change(run.folder, **values)
    said = refusal(lambda: finished(small(), tmp_path, run.folder))
    assert said == f"{run.folder}/metrics.json: {problem}; {AGAIN}"


def test_the_checksum_is_over_the_values_not_over_the_text(tmp_path):
    folders.write_json(tmp_path / "metrics.json", {"b": 0.1, "a": ["ä", None, 10**20]})
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert list(document) == ["b", "a", "checksum"]
    assert document["checksum"] == folders.key_of(a=["ä", None, 10**20], b=0.1)
