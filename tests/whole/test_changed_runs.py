"""Weights and figures of a finished run that were changed afterwards are noticed by every command that reads them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import write_cache
from in_process import Ended
from in_process import run as command
from reported import Reported, reported
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


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Reported:
    """Finished runs, made as `compare` and `sweep` below make them."""
    made = reported(tmp_path_factory.mktemp("whole"), arms=(("lda", "none"), ("crt", "stg")))
    np.save(made.runs.parent / "features.npy", np.zeros((2, 12), np.float32))
    return made


SETTINGS = ("--set", "name=toy", "--set", "stg.epochs=2", "--set", "retrain.epochs=2")
READERS = {
    "retrain": ("retrain", "--cache", "KEY", "--seeds", "2", *SETTINGS),
    "evaluate": ("evaluate", "--run", "RUN"),
    "predict": ("predict", "--run", "RUN", "--features", "features.npy"),
    "export": ("export", "--run", "RUN", "--to", "safetensors", "--head-only", "-o", "x.safetensors"),
    "report of a run": ("report", "RUN"),
    "report of a cache": ("report", "KEY", "--method", "crt+stg"),
    "compare": ("compare", "--cache", "KEY", "--methods", "lda,crt+stg", "--seeds", "2", *SETTINGS),
    "sweep": ("sweep", "sweep.toml", "--cache", "KEY", "--select-on", "test"),
    "results": ("results", "--json"),
}
PASS_OVER = ("results", "report of a cache")
"""Readers of many runs: one whose figures were changed is left out with a line."""
SWEPT = 'name = "toy"\nmethods = ["crt+stg"]\n[stg]\nepochs = 2\n[retrain]\nepochs = 2\nseeds = 2\n'


def read_by(whole: Reported, folder: Path, patch: pytest.MonkeyPatch, reader: str, file: str, damage) -> Ended:
    """What a command says of a copy of the runs whose `file` was changed; `+` in it is the run that is named."""
    shutil.copytree(whole.runs.parent, folder)
    (folder / "sweep.toml").write_text(SWEPT)
    patch.chdir(folder)
    damage(next(folder.glob(f"runs/toy/{file}")))
    names = {"KEY": whole.cache.key, "RUN": str(next(folder.glob("runs/toy/crt+stg-*")))}
    return command(patch, *(names.get(word, word) for word in READERS[reader]))


def swap_two_errors(path: Path) -> None:
    """Wrong predictions of another class: as many errors, and so the same accuracy."""
    tensors, metadata = checkpoint.load(path)
    tensors["test"][:, 0] = (tensors["test"][:, 0] + 1) % 5
    checkpoint.save(path, tensors, metadata)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str, tuple[str, ...]]] = {
    "classifier": (
        "crt+stg-*/classifier.safetensors",
        lambda path: flip_signs(path, "weight"),
        "/classifier.safetensors: changed after it was written: wanted tensors of digest ",
        tuple(reader for reader in READERS if reader != "results"),
    ),
    "figures": (
        "crt+stg-*/metrics.json",
        lambda path: change(path.parent, accuracy=12.5),
        "/metrics.json: changed after it was written: wanted the checksum ",
        tuple(reader for reader in READERS if reader not in PASS_OVER),
    ),
    "settings": (
        "crt+stg-*/config.toml",
        lambda path: path.write_text(path.read_text().replace("strength = 1.5", "strength = 0.5", 1)),
        "/config.toml: changed after it was written: retrain.strength: wanted 1.5, found 0.5; ",
        ("report of a run", "report of a cache"),
    ),
    "predictions": (
        "crt+stg-*/predictions.safetensors",
        swap_two_errors,
        "/predictions.safetensors: changed after it was written: wanted tensors of digest ",
        ("compare",),
    ),
    "generator": (
        "stg-*/stg.safetensors",
        lambda path: flip_signs(path, "stg.tokens_HD"),
        "/stg.safetensors: changed after it was written: wanted tensors of digest ",
        ("retrain", "report of a run", "report of a cache", "compare", "sweep"),
    ),
    "figures of the generator": (
        "stg-*/metrics.json",
        lambda path: change(path.parent, loss=0.125),
        "/metrics.json: changed after it was written: wanted the checksum ",
        ("retrain", "report of a run", "report of a cache", "compare", "sweep"),
    ),
}


@pytest.mark.parametrize(("damaged", "reader"), [(name, reader) for name in DAMAGES for reader in DAMAGES[name][3]])
def test_every_command_that_reads_a_changed_file(whole, tmp_path, monkeypatch, damaged, reader):
    file, damage, said, _ = DAMAGES[damaged]
    done = read_by(whole, tmp_path / "copy", monkeypatch, reader, file, damage)
    assert done.code == 1, done.err
    assert done.err.count("coattail: ") <= 1  # a sweep goes on with its other points
    assert said in done.err


@pytest.mark.parametrize("reader", READERS)
def test_those_commands_read_what_was_not_changed(whole, tmp_path, monkeypatch, reader):
    done = read_by(whole, tmp_path / "copy", monkeypatch, reader, "crt+stg-*/metrics.json", lambda path: None)
    assert done.code == 0, done.err


def test_results_and_the_report_of_a_cache_leave_a_changed_run_out_and_say_so(whole, tmp_path, monkeypatch):
    for number, reader in enumerate(PASS_OVER):
        done = read_by(
            whole,
            tmp_path / str(number),
            monkeypatch,
            reader,
            "lda-*/metrics.json",
            lambda path: change(path.parent, ece=1.0),
        )
        assert done.code == 0, done.err
        assert "left out: " in done.err
        assert "/metrics.json: changed after it was written: wanted the checksum " in done.err
        assert '"lda"' not in done.out


def test_classes_of_a_backbone_that_are_not_those_recorded(run, tmp_path):
    path = run.folder / "backbone.safetensors"
    tensors, metadata = checkpoint.load(path)
    checkpoint.save(path, tensors, {**metadata, "classes": metadata["classes"].replace("7", "x")})
    assert refusal(lambda: extract(small(), run, tmp_path / "stores")) == (
        f"{path}: changed after it was written: wanted the 10 classes that metrics.json has, found others; {AGAIN}"
    )


def test_settings_of_a_backbone_that_are_not_those_recorded(run, tmp_path):
    path = run.folder / "config.toml"
    path.write_text(path.read_text().replace("batch_size = 16", "batch_size = 32"))
    assert refusal(lambda: extract(small(), run, tmp_path / "stores")) == (
        f"{path}: changed after it was written: stage1.batch_size: wanted 16, found 32; {AGAIN}"
    )


def test_the_checksum_is_over_the_values_not_over_the_text(tmp_path):
    folders.write_json(tmp_path / "metrics.json", {"b": 0.1, "a": ["ä", None, 10**20]})
    document = json.loads((tmp_path / "metrics.json").read_text())
    assert list(document) == ["b", "a", "checksum"]
    assert document["checksum"] == folders.key_of(a=["ä", None, 10**20], b=0.1)
