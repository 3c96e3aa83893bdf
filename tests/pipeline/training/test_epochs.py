"""Checkpoints: killed at every operation of saving one, interrupted within an epoch, terminated; the same weights after."""

import ast
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from small_runs import small

from pipeline import progress
from pipeline.artefacts import tensors as checkpoint
from pipeline.stage1_backbone import train_backbone
from pipeline.training import steps as training

ROOT = Path(__file__).resolve().parents[3]

# The child saves 2.0 over 1.0 and dies at operation k; a write that dies leaves half of its bytes.
KILL = """
import os, pathlib, sys
import torch
from pipeline.artefacts import tensors as checkpoint
path, left = pathlib.Path(sys.argv[1]), 0
def mortal(name, function, torn=None):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            if torn: torn(*arguments)
            os._exit(9)
        return function(*arguments, **named)
    return call
def half(file, content):
    file.write(content[: len(content) // 2]); file.flush()
class File:
    def __init__(self, file): self.file = file; self.write = mortal("write", lambda c: file.write(c), lambda c: half(file, c))
    def __enter__(self): return self
    def __exit__(self, *_): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
plain = pathlib.Path.open
pathlib.Path.open = mortal("open", lambda *a, **k: File(plain(*a, **k)))
for name in ("fsync", "rename", "replace", "unlink", "open"): setattr(os, name, mortal(name, getattr(os, name)))
found = []
for k in range(20):
    child = os.fork()
    if child == 0:
        left = k
        checkpoint.save(path, {"x": torch.full((1000,), 2.0)}, {"is": "new"})
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = 10**9
    tensors, metadata = checkpoint.load(path)
    found.append((code, metadata["is"], set(tensors["x"].tolist())))
    if code == 0: break
    checkpoint.save(path, {"x": torch.full((1000,), 1.0)}, {"is": "old"})
print(repr(found))
"""


def test_killed_at_every_operation_of_saving_the_old_or_the_new_checkpoint_is_whole(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, {"x": torch.ones(1000)}, {"is": "old"})
    done = subprocess.run([sys.executable, "-c", KILL, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    found = ast.literal_eval(done.stdout)
    assert [code for code, _, _ in found] == [9] * (len(found) - 1) + [0]
    assert len(found) >= 6, "open, write, fsync, rename, open and fsync of the folder"
    assert all(values == {1.0 if text == "old" else 2.0} for _, text, values in found)
    texts = [text for _, text, _ in found]
    assert texts == sorted(texts, reverse=True)
    assert {"old", "new"} == set(texts)


@dataclass
class Stopping:
    """Training's step, until it is interrupted in place of step number `left`."""

    left: int

    def __call__(self, training, *arguments):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return STEP(training, *arguments)


STEP = training.Training._step


@pytest.fixture
def often(monkeypatch):
    """A checkpoint at each step."""
    monkeypatch.setattr(training, "CHECK_EVERY", 1)


def _counted(monkeypatch, stop):
    monkeypatch.setattr(training.Training, "_step", lambda self, *arguments: stop(self, *arguments))


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_run_goes_on_within_an_epoch_without_doing_a_step_again(tmp_path, monkeypatch, often, amp):
    settings = small(checkpoint_minutes=0, amp=amp, epochs=2)
    whole = train_backbone(settings, tmp_path / "whole")
    first = Stopping(left=6)
    _counted(monkeypatch, first)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(settings, tmp_path / "run")
    assert progress.interrupted_text() == "interrupted; the same command goes on after step 2 of epoch 2"
    point = json.loads(checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")[1]["point"])
    assert (point["done"]["epoch"], point["done"]["step"], len(point["history"])) == (1, 2, 1)
    second = Stopping(left=100)
    _counted(monkeypatch, second)
    assert train_backbone(settings, tmp_path / "run").digest == whole.digest
    assert 100 - second.left == 2
    losses = [
        [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]
        for folder in (whole.folder, tmp_path / "run")
    ]
    assert losses[0] == losses[1]


def test_a_short_epoch_is_saved_at_its_end_alone(tmp_path, monkeypatch, often):
    _counted(monkeypatch, Stopping(left=2))
    with pytest.raises(KeyboardInterrupt):
        train_backbone(small(), tmp_path / "run")
    assert progress.interrupted_text() == (
        "interrupted; no checkpoint is written yet, the same command begins this training again"
    )
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f".checkpoint.safetensors.{'0a' * 16}.tmp").write_bytes(b"half")
    train_backbone(small(epochs=1), folder)
    assert {file.name for file in folder.iterdir()} - {".lock"} == {
        "config.toml",
        "log.jsonl",
        "backbone.safetensors",
        "metrics.json",
    }


def test_a_terminated_run_says_how_it_goes_on(tmp_path):
    """SIGTERM is how clusters take a machine back."""
    command = [sys.executable, str(ROOT / "cli.py"), "train-backbone", "--config", "digits-lt", "--no-extract"]
    environment = os.environ | {"COATTAIL_RUNS": str(tmp_path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while "epoch 1/" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        text = process.communicate()[1]
    assert process.returncode == 143
    lines = [line for line in text.splitlines() if line]
    assert re.fullmatch(r"coattail: interrupted; the same command goes on after epoch \d+", lines[-1])
    assert "Traceback" not in text
    assert len(list(tmp_path.glob("digits-lt/*/checkpoint.safetensors"))) == 1
