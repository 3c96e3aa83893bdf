"""The real commands, interrupted, killed and on full disks: one line, exit 1, and the same command goes on."""

import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from small_runs import small

from cache import FeatureCache
from cache.errors import CacheStorage
from pipeline.artefacts import tensors as checkpoint
from pipeline.settings.files import to_toml
from pipeline.stage1_backbone import train_backbone
from pipeline.stage1_extract import extract

INTERRUPTED = "coattail: interrupted; the features that are written stay, the same command computes the others\n"


def viewed():
    """Many small shards: 24 views of 62 images, five images at a time."""
    changes = {"views": 24, "batch_size": 5}
    return small(epochs=1).model_copy(update={"extract": small().extract.model_copy(update=changes)})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train_backbone(viewed(), tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def command(run, tmp_path):
    """`extract`, as a user types it."""
    (tmp_path / "small.toml").write_text(to_toml(viewed()))
    return ["extract", "--config", "small.toml", "--backbone", str(run.folder)]


@pytest.fixture
def full_disk(tmp_path):
    """A disk of 40 KiB, and a function that makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(folder)], capture_output=True, text=True, check=False
    ) if sys.platform == "linux" and os.geteuid() == 0 else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip("a small disk can only be mounted by root on Linux")
    yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=9m", str(folder)], check=True)
    subprocess.run(["umount", str(folder)], check=True)


def features(path: Path) -> dict[str, bytes]:
    cache = FeatureCache.open(path)
    return {
        f"{split}/{view}": cache.features(split, view).tobytes()
        for split in cache.splits
        for view in cache.views(split)
    }


def test_a_full_disk(run, coattail, command, full_disk, tmp_path):
    folder, enlarge = full_disk
    done = coattail(*command, COATTAIL_STORES=str(folder))
    assert (done.code, done.out) == (1, "")
    line = done.err.splitlines()[-1]
    assert line.startswith(f"coattail: {folder}/.staging/")
    assert line.endswith(
        ": cannot be written (No space left on device); free space or inodes, then run the same command again"
    )
    assert [path.name for path in folder.iterdir()] == [".staging"]
    kept = {file: file.stat().st_mtime_ns for file in folder.rglob("c/*/0")}
    assert kept
    enlarge()
    assert coattail(*command, COATTAIL_STORES=str(folder)).code == 0
    (path,) = [path for path in folder.iterdir() if path.name != ".staging"]
    times = {file.stat().st_mtime_ns for file in path.rglob("c/*/0")}
    assert set(kept.values()) <= times  # not written again
    assert features(path) == features(extract(viewed(), run, tmp_path / "alone"))


def begun(command, folder, journal: int) -> subprocess.Popen:
    """The command in a process of its own, whose journal has got more lines than it had."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COATTAIL_")}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *command], cwd=folder, env=clean, stderr=subprocess.PIPE, text=True
    )
    while process.poll() is None and lines(folder) <= journal:
        pass
    return process


def lines(folder) -> int:
    return sum(file.read_bytes().count(b"\n") for file in (folder / "stores").glob(".staging/*/journal-*.jsonl"))


def test_interrupted_and_killed(run, coattail, command, tmp_path):
    process = begun(command, tmp_path, 0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    # click first ends the line on which a terminal shows ^C
    assert process.returncode == 130
    assert errors.endswith(f"\n{INTERRUPTED}")
    draw = random.Random(0)
    for _ in range(2):
        process = begun(command, tmp_path, lines(tmp_path))
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=draw.uniform(0, 0.05))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert [path.name for path in (tmp_path / "stores").iterdir()] == [".staging"]
    done = coattail(*command)
    assert done.code == 0, done.err
    assert features(tmp_path / done.out.strip()) == features(extract(viewed(), run, tmp_path / "alone"))


def test_a_disk_that_fills_while_training_keeps_the_earlier_checkpoint(tmp_path, monkeypatch):
    """The limit on file sizes is a disk that is full, for anybody who may not mount one."""
    whole = train_backbone(small(epochs=2), tmp_path / "whole")
    limits, saved = resource.getrlimit(resource.RLIMIT_FSIZE), []
    save = checkpoint.save

    def filling(path, tensors, metadata):
        if saved:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
        saved.append(path)
        save(path, tensors, metadata)

    monkeypatch.setattr(checkpoint, "save", filling)
    try:
        with pytest.raises(CacheStorage) as caught:
            train_backbone(small(epochs=2), tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        monkeypatch.undo()
    assert str(caught.value) == (
        f"{tmp_path}/run/checkpoint.safetensors: cannot be written (File too large); "
        "raise the limit on file sizes (ulimit -f), then run the same command again"
    )
    files = {path.name for path in (tmp_path / "run").iterdir() if path.name != ".lock"}
    assert files == {"config.toml", "log.jsonl", "checkpoint.safetensors"}
    checkpoint.load(tmp_path / "run" / "checkpoint.safetensors")
    assert train_backbone(small(epochs=2), tmp_path / "run").digest == whole.digest


def test_modes_of_a_run_are_what_the_umask_leaves(run):
    umask = os.umask(0)
    os.umask(umask)
    for name in ("backbone.safetensors", "config.toml", "metrics.json", "log.jsonl"):
        assert (run.folder / name).stat().st_mode & 0o777 == 0o666 & ~umask
