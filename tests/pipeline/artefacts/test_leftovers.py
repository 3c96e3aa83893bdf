"""What kill -9 leaves in run folders: offered by prune, and taken away by the next run; nothing else is."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, write_cache
from in_process import run
from small_runs import small

from pipeline.artefacts import folders
from pipeline.artefacts.leftovers import prune_runs
from pipeline.stage1_backbone import stage1

TORN = f".config.toml.{'0123456789abcdef' * 2}.tmp"
HOUR = 3600


def aged(path: Path, hours: float = 2) -> Path:
    path.write_bytes(b"x" * 10)
    os.utime(path, (time.time() - hours * HOUR,) * 2)
    return path


@pytest.fixture
def runs(tmp_path) -> Path:
    """A finished run, an unfinished one, and a report's figures."""
    for name, files in (
        ("done", ("config.toml", "metrics.json", ".lock")),
        ("begun", ("config.toml",)),
        ("x-figures", ()),
    ):
        folder = tmp_path / "runs" / "toy" / name
        folder.mkdir(parents=True)
        for file in files:
            aged(folder / file)
    return tmp_path / "runs"


def test_half_written_files_and_checkpoints_of_finished_runs_are_offered_and_deleted(runs):
    toy = runs / "toy"
    wanted = [
        aged(toy / ".report-x.html.00112233445566778899aabbccddeeff.tmp"),
        aged(toy / "begun" / TORN),
        aged(toy / "done" / TORN),
        aged(toy / "done" / folders.CHECKPOINT),
        aged(toy / "x-figures" / TORN),
    ]
    spared = [
        aged(toy / "begun" / folders.CHECKPOINT),  # the next start goes on from it
        aged(toy / "begun" / f".x.{'1' * 32}.tmp", hours=0.5),
        aged(toy / "done" / ".notes.tmp"),
        aged(toy / "done" / "model.tmp"),
    ]
    offered = prune_runs(runs, yes=False)
    assert sorted(candidate.path for candidate in offered) == sorted(map(str, wanted))
    assert {candidate.reason for candidate in offered} == {
        "half-written file of a run, untouched for 2 h",
        "checkpoint of a finished run, untouched for 2 h",
    }
    assert all(path.exists() for path in wanted)
    assert prune_runs(runs, yes=True) == offered
    assert not any(path.exists() for path in wanted)
    assert all(path.exists() for path in spared)
    assert prune_runs(runs, yes=True) == []


def test_a_folder_that_a_process_works_on_is_left_alone(runs):
    aged(runs / "toy" / "done" / folders.CHECKPOINT)
    program = "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); time.sleep(60)"
    lock = str(runs / "toy" / "done" / ".lock")
    process = subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        assert prune_runs(runs, yes=True) == []
    finally:
        process.kill()
        process.communicate()
    assert len(prune_runs(runs, yes=True)) == 1


def test_the_command_covers_runs(runs, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("COATTAIL_STORES", "COATTAIL_RUNS"):
        monkeypatch.delenv(name, raising=False)
    torn = aged(runs / "toy" / "done" / TORN)
    done = run(monkeypatch, "cache", "prune")
    assert done.out == (
        f"{torn} (10 B, half-written file of a run, untouched for 2 h): would be deleted\nnothing is deleted without --yes\n"
    )
    assert run(monkeypatch, "cache", "prune", "--yes").out.endswith("): deleted\n")
    assert not torn.exists()


def test_the_next_run_takes_away_what_a_killed_one_left(tmp_path):
    made = stage1(small(epochs=1), tmp_path)
    for name in (TORN, folders.CHECKPOINT):
        (made.folder / name).write_bytes(b"x")
    (made.folder / ".notes.tmp").write_text("mine")
    assert stage1(small(epochs=1), tmp_path).digest == made.digest
    assert sorted(path.name for path in made.folder.iterdir()) == sorted(
        [".lock", ".notes.tmp", "backbone.safetensors", "config.toml", "log.jsonl", "metrics.json"]
    )


def test_a_classifier_that_is_killed_as_it_is_written_leaves_nothing_after_the_next_run(tmp_path):
    cache = write_cache(tmp_path / "stores")
    program = (
        "import os, signal, sys\n"
        "from cache.disk import durable\n"
        "from pathlib import Path\n"
        "def replace(path, *_, **__):\n"
        "    durable._temporary(path, b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "durable.replace = replace\n"
        "sys.argv = ['coattail', *sys.argv[1:]]\n"
        "import cli; cli.main()\n"
    )
    arguments = ["compare", "--cache", str(cache.path), "--methods", "ncm,stage1"]
    environment = os.environ | {"COATTAIL_RUNS": str(tmp_path / "runs"), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(list(tmp_path.glob("runs/*/*/.*.tmp"))) == 1
    whole = [sys.executable, str(ROOT / "cli.py"), *arguments]
    assert subprocess.run(whole, env=environment, check=False, capture_output=True).returncode == 0
    assert not list(tmp_path.glob("runs/*/*/.*.tmp"))
