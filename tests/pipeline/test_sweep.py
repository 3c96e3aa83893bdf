"""Sweeps: a run folder a point, what is resumed, chosen, refused and never lost."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from conftest import ROOT, Blobs, write_cache
from in_process import run

from pipeline.artefacts import folders
from pipeline.errors import ConfigError, PipelineError
from pipeline.report.swept import sweep_lines
from pipeline.settings.load import load
from pipeline.stage3_record import RetrainResult
from pipeline.sweep import Sweep, choose_on, sweep
from pipeline.sweeping.plan import points, read_sweep
from pipeline.sweeping.spread import Workers

FAST = ("retrain.augmentation=none", "retrain.epochs=1", "retrain.batch_size=32", "stg.epochs=1", "stg.head_classes=2")
SEEN = {"stage1": {"epochs": 5}}
"""Of a cache whose backbone was trained on its rows."""


@dataclass(frozen=True)
class Noise(Blobs):
    """Features that do not depend on the class."""

    def split(self, counts, purpose):
        labels = np.repeat(np.arange(len(counts)), counts)
        return np.random.default_rng(purpose).normal(size=(len(labels), self.width)), labels


@pytest.fixture
def job(cache, tmp_path):
    def make(text, **changes):
        path = tmp_path / "sweep.toml"
        path.write_text(text)
        swept = read_sweep(path)
        on = changes.pop("cache", cache)
        settings = load(overrides=FAST).settings
        made = Sweep(swept, points(swept, settings), on, str(on.path), tmp_path / "runs")
        return replace(made, **changes)

    return make


GRID = 'methods = ["crt+noise", "lda"]\nseed = [0, 1]\n[retrain]\nnoise = [0.1, 0.5]'


def test_a_run_folder_a_point_and_the_best_by_cross_validation(job, tmp_path):
    folder, result = sweep(job(GRID))
    assert (result.points, len(result.places), result.selected_on, result.failures) == (6, 3, "cross-validation", [])
    assert [place.seeds for place in result.places] == [[0, 1]] * 3
    chosen = [place for place in result.places if place.chosen]
    assert len(chosen) == 1
    assert chosen[0].score == max(place.score for place in result.places)
    for place in result.places:
        kept = [folders.read_result(Path(run), RetrainResult, "figures-cross-validation.json") for run in place.runs]
        assert place.score == pytest.approx(sum(one.balanced_accuracy for one in kept) / 2)
        assert {one.split for one in kept} == {"cross-validation"}
    rows = pl.read_parquet(folder / "results.parquet")
    assert len(rows) == 6
    assert json.loads((folder / "sweep.json").read_text())["points"] == 6
    assert (folder / "sweep.toml").read_text() == GRID


def test_cross_validation_trains_without_the_rows_it_is_measured_on(job, stores):
    """Features that say nothing: a head that had seen its rows would be right on most of them."""
    noise = write_cache(stores, Noise(counts=(40, 40), width=40))
    _, result = sweep(job('methods = ["knn", "lda"]\n[retrain]\nneighbours = 1', cache=noise))
    assert all(25 < place.score < 75 for place in result.places)


def test_a_run_is_cross_validated_on_the_same_folds_whatever_runs_beside_it(job, stores, tmp_path):
    noise = write_cache(stores, Noise(counts=(40, 40)))
    name = "figures-cross-validation.json"
    text = 'methods = ["crt"]\nseed = [{}]'
    alone = sweep(job(text.format("0"), root=tmp_path / "alone", cache=noise))[1].places[0].runs
    beside = sweep(job(text.format("0, 1"), root=tmp_path / "beside", cache=noise))[1].places[0].runs
    kept = [folders.read_result(Path(runs[0]), RetrainResult, name) for runs in (alone, beside)]
    assert kept[0].seeds == kept[1].seeds == [0]
    assert kept[0].each_seed == kept[1].each_seed


def test_the_same_sweep_again_trains_nothing(job, capsys):
    sweep(job(GRID))
    before = {path: path.stat().st_mtime_ns for path in job(GRID).root.glob("*/*/metrics.json")}
    sweep(job(GRID))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "6 points, 6 done already; 0 programs" in capsys.readouterr().err
    sweep(job(GRID.replace("0.5]", "0.5, 0.9]")))
    assert "8 points, 6 done already; 1 programs of 2 replicas" in capsys.readouterr().err


def test_points_that_mean_one_run_are_counted_once(job, stores, capsys):
    """On rows that the backbone was trained on, `auto` stands for 0.003."""
    seen = write_cache(stores, Blobs(seed=3), settings=SEEN)
    folder, result = sweep(job('methods = ["logistic"]\n[retrain]\nl2 = ["auto", 0.003, 0.5]', cache=seen))
    assert [place.values for place in result.places] == [{"retrain.l2": "auto"}, {"retrain.l2": 0.5}]
    assert [place.seeds for place in result.places] == [[0], [0]]
    assert (result.points, len(pl.read_parquet(folder / "results.parquet"))) == (2, 2)
    said = capsys.readouterr().err
    assert "retrain.l2=0.003: the same run as retrain.l2=auto" in said
    assert "sweep: 2 points, 0 done already; 2 programs of 2 replicas" in said


def test_names_of_one_device_mean_one_sweep(job, monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    texts = [
        'methods = ["ncm"]\ndevice = "cpu"',
        'methods = ["ncm"]\ndevice = ["auto"]',
        'methods = ["ncm"]\ndevice = "cpu:0"',
    ]
    assert len({sweep(job(text))[0] for text in texts}) == 1
    _, result = sweep(job('methods = ["ncm"]\ndevice = ["cpu", "auto"]'))
    assert result.points == 1
    assert "device=auto: the same run as device=cpu" in capsys.readouterr().err


def test_one_point_that_diverges_takes_no_other_with_it(job):
    text = "[retrain]\noptimizer = 'sgd'\nlearning_rate = [0.01, 1e38]"
    _, result = sweep(job(text))
    assert [failure.point for failure in result.failures] == ["retrain.learning_rate=1e+38"]
    assert "the loss is not finite" in result.failures[0].error
    assert [place.values for place in result.places] == [{"retrain.learning_rate": 0.01}]
    assert any("failed: retrain.learning_rate=1e+38: " in str(line) for line in sweep_lines(result, "x"))
    with pytest.raises(PipelineError, match=r"sweep: at retrain.learning_rate=1e\+38: .*; what was finished is kept"):
        sweep(job(text, fail_fast=True))


def test_what_may_be_chosen_on(stores, cache):
    assert choose_on("auto", cache) == ("cross-validation", None)
    assert choose_on("test", cache) == ("test", None)
    seen = write_cache(stores, Blobs(seed=3), settings=SEEN)
    split, why = choose_on("auto", seen)
    assert split is None
    assert why.startswith(f"cache {seen.key[:12]} has no split val, and its backbone was trained on the training rows")
    with pytest.raises(ConfigError, match=r"--select-on val: cache .* has no split val, found train, test"):
        choose_on("val", cache)
    with pytest.raises(ConfigError, match=r"--select-on cross-validation: cache .* trained on the training rows"):
        choose_on("cross-validation", seen)


def test_a_choice_on_test_says_so(job):
    _, result = sweep(job(GRID, select_on="test"))
    assert result.selected_on == "test"
    assert result.warning.startswith("selected on the test split: its figure is optimistic")
    assert any(str(line).startswith("WARNING: selected on the test split") for line in sweep_lines(result, "x"))


def test_processes_give_what_one_process_gives(job, tmp_path):
    text = GRID.replace('"lda"', '"lda", "crt+stg"')
    _, one = sweep(job(text, root=tmp_path / "one"))
    _, two = sweep(job(text, root=tmp_path / "two", workers=Workers(2)))
    strip = {"places": {"__all__": {"runs", "seconds"}}}
    assert one.model_dump(exclude=strip) == two.model_dump(exclude=strip)


def test_the_command_goes_on_after_a_kill(coattail, cache, tmp_path):
    (tmp_path / "s.toml").write_text("[retrain]\nbatch_size = { from = 16, to = 24 }")
    settings = ("retrain.augmentation=none", "retrain.epochs=20", "retrain.seeds=3")
    arguments = ["sweep", "s.toml", "--cache", cache.key, *(part for text in settings for part in ("--set", text))]
    process = subprocess.Popen([sys.executable, str(ROOT / "cli.py"), *arguments], cwd=tmp_path, stderr=subprocess.PIPE)
    for _ in range(6000):
        if len(list(tmp_path.glob("runs/*/*/figures-cross-validation.json"))) >= 2 or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = len(list(tmp_path.glob("runs/*/*/figures-cross-validation.json")))
    assert finished >= 2
    done = coattail(*arguments, "--json")
    assert done.code == 0, done.err
    assert f"9 points, {finished} done already" in done.err
    assert (done.json["points"], len(done.json["places"]), done.json["failures"]) == (9, 9, [])


def test_settings_of_a_cache_that_is_made_already_are_refused(monkeypatch, cache, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text("[stage1]\nepochs = [1, 2]")
    done = run(monkeypatch, "sweep", "s.toml", "--cache", cache.key)
    assert done.code == 2
    assert (
        done.err
        == "coattail: stage1.epochs: has no effect here: the features of --cache are made already; leave it out\n"
    )


def test_workers_that_there_are_not(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text("seed = [1]")
    wanted = run(monkeypatch, "sweep", "s.toml", "--cache", "x", "--backend", "dask")
    assert (wanted.code, wanted.err) == (
        2,
        "coattail: --backend dask wants --scheduler ADDRESS, such as tcp://10.0.0.1:8786\n",
    )


def test_a_scheduler_that_does_not_answer_is_said_and_wanted_only_where_there_is_work(job):
    pytest.importorskip("distributed", reason="dask is an extra: pip install 'coattail[dask]'")
    nowhere = Workers(1, "dask", "elsewhere://x:1")
    with pytest.raises(PipelineError) as error:
        sweep(job("methods = ['ncm']", workers=nowhere))
    reason, _, remedy = str(error.value).partition("); ")
    assert reason.startswith("--scheduler elsewhere://x:1: no Dask scheduler answers there (unknown address scheme")
    assert remedy == "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
    sweep(job("methods = ['ncm']"))
    assert sweep(job("methods = ['ncm']", workers=nowhere))[1].points == 1


@pytest.mark.parametrize("on", ["val", "cross-validation"])
def test_the_choice_is_made_for_the_class_prior_that_is_stated(job, stores, on):
    """Where only the first class is expected every row is predicted as it: one class in five is right."""
    cache = write_cache(stores, val=on == "val")
    text = 'methods = ["crt"]\n[evaluate]\nprior = "1,0,0,0,0"\n[choice]\nmetric = "balanced"'
    _, result = sweep(job(text, cache=cache, select_on=on))
    assert result.places[0].score == pytest.approx(20)
