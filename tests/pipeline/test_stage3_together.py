"""Runs that train side by side: which may, that each is what it would be alone, and the memory that is said beforehand."""

import shutil
from threading import Thread

import pytest
import torch

from pipeline import retrain
from pipeline.artefacts import folders, tensors
from pipeline.settings.load import load
from pipeline.stage3_retrain import planned
from pipeline.stage3_together import programs, run_program


def settings(*more):
    base = ["retrain.augmentation=noise", "retrain.epochs=1", "retrain.batch_size=32"]
    given = {text.partition("=")[0] for text in more}
    return load(overrides=[*(text for text in base if text.partition("=")[0] not in given), *more]).settings


def test_runs_of_one_shape_are_one_program(cache, tmp_path):
    grid = [
        settings(f"seed={seed}", f"retrain.noise={noise}", f"retrain.learning_rate={rate}")
        for seed in (0, 1)
        for noise in (0.1, 0.5)
        for rate in (0.01, 0.1)
    ]
    others = [settings("retrain.batch_size=16"), settings("retrain.head=ncm"), settings("retrain.augmentation=none")]
    found = programs([planned(each, cache, tmp_path) for each in (*grid, *others)], cache)
    assert [(len(one.runs), one.replicas, one.seeds) for one in found] == [
        (8, 8, (0, 1)),
        (1, 1, (0,)),
        (1, 1, (0,)),
        (1, 1, (0,)),
    ]


@pytest.mark.parametrize(
    ("length", "found"), [("retrain.steps=20", 1), ("retrain.epochs=2", 1), ("retrain.epochs=0", 2)]
)
def test_runs_of_a_backbone_that_never_saw_the_rows_are_alone_where_their_steps_are_searched(
    cache, tmp_path, length, found
):
    own = [] if "epochs" in length else ["retrain.epochs=0"]
    grid = [settings(f"retrain.noise={noise}", length, *own) for noise in (0.1, 0.5)]
    assert len(programs([planned(each, cache, tmp_path) for each in grid], cache)) == found


@pytest.mark.parametrize(
    ("head", "changes"),
    [
        ("crt", ("retrain.noise=0.1", "retrain.noise=0.5")),
        ("logit-adjusted", ("retrain.tau=0.5", "retrain.tau=1.5")),
        ("focal", ("retrain.noise=0.1", "retrain.noise=0.5")),
        ("class-balanced", ("retrain.learning_rate=0.01", "retrain.learning_rate=0.1")),
        ("generalized", ("retrain.smoothing_head=0.1", "retrain.smoothing_head=0.4")),
    ],
)
def test_each_is_what_it_would_be_alone(cache, tmp_path, head, changes):
    grid = [
        settings(f"retrain.head={head}", change, f"seed={seed}", "retrain.seeds=2")
        for change in changes
        for seed in (3, 7)
    ]
    runs = [planned(each, cache, tmp_path / "together") for each in grid]
    (program,) = programs(runs, cache)
    assert program.seeds == (3, 4, 7, 8)
    run_program(program, cache)
    for run in runs:
        folder, result = retrain(run.settings, cache, tmp_path / "alone")
        assert folder.name == run.folder.name
        here, there = (tensors.load(path / "classifier.safetensors")[0] for path in (run.folder, folder))
        torch.testing.assert_close(here, there, atol=1e-6, rtol=1e-5)
        assert result.seeds == retrain(run.settings, cache, tmp_path / "together")[1].seeds


def test_runs_that_another_process_makes_are_waited_for_and_not_trained_again(cache, tmp_path):
    runs = [planned(settings(f"retrain.noise={noise}", "retrain.seeds=1"), cache, tmp_path) for noise in (0.1, 0.2)]
    (program,) = programs(runs, cache)
    with folders.alone(runs[0].folder, "classifier"):
        other = Thread(target=run_program, args=(program, cache))
        other.start()
        other.join(0.5)
        assert other.is_alive()
        retrained = retrain(runs[0].settings, cache, tmp_path / "elsewhere")[0]
        for path in retrained.glob("[!.]*"):
            shutil.copy(path, runs[0].folder)
        proof = (runs[0].folder / "metrics.json").stat().st_mtime_ns
    other.join()
    assert (runs[0].folder / "metrics.json").stat().st_mtime_ns == proof
    assert folders.is_done(runs[1].folder)


def test_a_program_holds_no_more_locks_than_a_process_may_open_files(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.stage3_together.MOST_RUNS", 2)
    runs = [planned(settings(f"seed={seed}"), cache, tmp_path) for seed in range(5)]
    assert sorted(len(program.runs) for program in programs(runs, cache)) == [1, 2, 2]


def test_a_program_is_halved_until_it_fits(cache, tmp_path):
    grid = [settings(f"seed={seed}", f"retrain.noise={noise}") for seed in (0, 1) for noise in (0.1, 0.2, 0.3)]
    runs = [planned(each, cache, tmp_path) for each in grid]
    (whole,) = programs(runs, cache)
    size = whole.bytes(12, 5)
    parts = programs(runs, cache, limit=size - 1)
    assert len(parts) == 2
    assert sorted(run.folder for part in parts for run in part.runs) == sorted(run.folder for run in runs)
    assert all(part.bytes(12, 5) < size for part in parts)
    assert len(programs(runs, cache, limit=1)) == 6
