"""Two processes of torchrun: the weights of one process, one writer, errors in both; a failure of one is one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_runs import small
from torchrun_worker import OWN

from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones.resnet import BACKBONES
from pipeline.stage1_backbone import train_backbone

ROOT = Path(__file__).resolve().parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name, backbone in OWN.items():
        monkeypatch.setitem(BACKBONES, name, backbone)


def torchrun(cwd, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*TORCHRUN, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def _settings(backbone="plain", seed=0, ending="plain", **stage1):
    found = small(seed, **{"warmup_epochs": 0, "learning_rate": 0.05, **stage1})
    return found.model_copy(update={"backbone": found.backbone.model_copy(update={"name": backbone, "ending": ending})})


METHODS = {
    "sam": _settings(batch_size=20, accumulate=2, sam_rho=0.05),
    "muon": _settings(batch_size=20, accumulate=2, optimizer="muon"),
    "ema": _settings(batch_size=20, accumulate=2, averaging="ema", ema_decay=0.5),
    "swa": _settings(batch_size=20, accumulate=2, averaging="swa", swa_start=0.4),
    "bbn": _settings("grouped", ending="bbn", batch_size=20, accumulate=2, mixing="none"),
}
RUNS = {
    # 62 images: batches of 20 leave one of two rows, too few for both processes.
    "plain": _settings(batch_size=20),
    "accumulated": _settings(batch_size=20, accumulate=3),
    "batchnorm": _settings("resnet20", epochs=2, learning_rate=0.005),
    "everything": _settings(
        "resnet20",
        ending="bbn",
        mixing="none",
        sam_rho=0.05,
        averaging="swa",
        accumulate=2,
        epochs=2,
        learning_rate=0.005,
    ),
    "new-block": _settings("resnet20", ending="new-block", epochs=2, learning_rate=0.005),
    **METHODS,
    "diverged": _settings(learning_rate=1e30, mixing="none"),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes trained RUNS."""
    folder = tmp_path_factory.mktemp("two")
    text = json.dumps({name: settings.model_dump(mode="json") for name, settings in RUNS.items()})
    done = torchrun(folder, ROOT / "tests/support/torchrun_worker.py", folder, text)
    assert done.returncode == 0, done.stderr
    return folder


def _weights(folder):
    return checkpoint.load(folder / "backbone.safetensors")[0]


def _losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["plain", "accumulated"])
def test_two_processes_train_what_one_does(two, tmp_path, name):
    one = train_backbone(RUNS["plain"], tmp_path / "one")
    start = train_backbone(_settings(batch_size=20, epochs=1), tmp_path / "start")
    assert _losses(two / name) == pytest.approx(_losses(one.folder), rel=1e-5)
    wanted, found, before = _weights(one.folder), _weights(two / name), _weights(start.folder)
    assert not torch.allclose(wanted["classifier.weight"], before["classifier.weight"], atol=1e-3)
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-6)
    assert json.loads((two / name / "metrics.json").read_text())["processes"] == 2


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_train_what_one_does_with_every_method(two, tmp_path, name):
    """In two micro-batches each, against one process that takes a batch whole."""
    stage1 = METHODS[name].stage1.model_copy(update={"accumulate": 1})
    one = train_backbone(METHODS[name].model_copy(update={"stage1": stage1}), tmp_path / "one")
    assert _losses(two / name) == pytest.approx(_losses(one.folder), rel=1e-4)
    found, wanted = _weights(two / name), _weights(one.folder)
    assert found.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=1e-5)


def test_accumulation_alone_changes_nothing_but_rounding(tmp_path):
    one = train_backbone(_settings(epochs=1), tmp_path / "one")
    parts = train_backbone(_settings(epochs=1, accumulate=4), tmp_path / "parts")
    assert one.digest != parts.digest
    for key, tensor in _weights(one.folder).items():
        torch.testing.assert_close(_weights(parts.folder)[key], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["batchnorm", "everything", "new-block"])
def test_with_batch_normalisation_the_loss_is_near_that_of_one_process(two, tmp_path, name):
    one = train_backbone(RUNS[name], tmp_path / "one")
    assert _losses(two / name) == pytest.approx(_losses(one.folder), rel=0.1)


def test_both_processes_hold_the_first_one_s_weights_and_one_writes(two):
    for name in ("plain", "batchnorm", "everything", *METHODS):
        digests = {(two / f"{name}-{rank}.txt").read_text() for rank in (0, 1)}
        assert digests == {checkpoint.digest(_weights(two / name))}
        names = {file.name for file in (two / name).iterdir()} - {".lock"}
        assert names == {"config.toml", "log.jsonl", "backbone.safetensors", "metrics.json"}


def test_a_loss_that_is_not_finite_stops_both_alike(two):
    texts = [(two / f"diverged-{rank}.txt").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    assert texts[0].startswith("stage 1: loss nan in epoch 1, step ")


def test_what_one_process_alone_runs_into_is_one_line(tmp_path):
    """An image that is cut short lies in the part of one process; the other is told and says nothing."""
    for number in range(8):
        path = tmp_path / "images" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:200])
    (tmp_path / "own.toml").write_text(
        '[data]\nsource = "folder"\ntrain = "images"\ntest = "images"\nimage_size = 16\nram_limit = 1e-9\nworkers = 0\n'
        '[backbone]\nname = "resnet20"\n[stage1]\nepochs = 1\nbatch_size = 8\nmixing = "none"\n'
    )
    done = torchrun(tmp_path, ROOT / "cli.py", "train-backbone", "--config", "own.toml")
    assert done.returncode == 1
    assert done.stdout == ""
    ours = [line for line in done.stderr.splitlines() if line.startswith("coattail: ")]
    assert len(ours) == 1, done.stderr
    assert "dog/7.png: cannot be decoded" in ours[0]
    assert "Traceback" not in done.stderr.split("coattail: ")[0]
