"""What an interrupted command says: what its next start does in this stage. What a repeated one says: that all is done already."""

import signal

import numpy as np
import pytest
from conftest import write_cache
from in_process import run

import pipeline.progress
from pipeline.commands.failures import Terminated

FAST = ("--set", "retrain.epochs=1", "--set", "stg.epochs=1")
RETRAIN = ("retrain", "--cache", "KEY", *FAST)
COMPARE = ("compare", "--cache", "KEY", "--methods", "ncm,crt", "--set", "retrain.epochs=1")
SWEEP = ("sweep", "sweep.toml", "--cache", "KEY")
ALONE = "the same command trains it from the start; what was finished before it stays"


@pytest.fixture
def key(tmp_path, monkeypatch) -> str:
    """A cache in a working folder of its own. The message is put back afterwards: it is this process's."""
    monkeypatch.chdir(tmp_path)
    for name in ("COATTAIL_STORES", "COATTAIL_RUNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pipeline.progress, "_interrupted", pipeline.progress.INTERRUPTED)
    (tmp_path / "sweep.toml").write_text('methods = ["ncm", "lda"]\n')
    return write_cache(tmp_path / "stores").key


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt, 128 + signal.SIGINT), (Terminated, 128 + signal.SIGTERM)]
)
@pytest.mark.parametrize(
    ("arguments", "where", "said"),
    [
        (RETRAIN, "pipeline.stage3_retrain.train_classifier", f"of this classifier nothing is kept, {ALONE}"),
        (RETRAIN, "pipeline.stage2_stg.fit", f"of this generator nothing is kept, {ALONE.replace('trains', 'learns')}"),
        (
            ("train-stg", "--cache", "KEY", "--set", "stg.epochs=1"),
            "pipeline.stage2_stg.fit",
            f"of this generator nothing is kept, {ALONE.replace('trains', 'learns')}",
        ),
        (
            ("run", "--cache", "KEY", *FAST),
            "pipeline.stage3_retrain.train_classifier",
            f"of this classifier nothing is kept, {ALONE}",
        ),
        (
            COMPARE,
            "pipeline.stage3_together.run_program",
            "finished methods are kept, the same command goes on with the others",
        ),
        (
            SWEEP,
            "pipeline.stage3_together.run_program",
            "every finished point is kept; the same command goes on with the others",
        ),
        (
            ("inspect", "--cache", "KEY", "--labels"),
            "pipeline.inspecting.label_errors.label_findings",
            "nothing is kept, the same command begins again",
        ),
    ],
    ids=["retrain", "its generator", "train-stg", "run", "compare", "sweep", "inspect"],
)
def test_an_interrupted_command(key, monkeypatch, arguments, where, said, error, code):
    def stops(*_, **__):
        raise error

    monkeypatch.setattr(where, stops)
    done = run(monkeypatch, *(key if word == "KEY" else word for word in arguments), "--json")
    assert done.code == code
    assert done.err.splitlines()[-1] == f"coattail: interrupted; {said}"
    assert done.json == {"error": f"interrupted; {said}"}


@pytest.mark.parametrize(
    ("more", "said"), [([], "nothing is kept, the same command begins again"), (["-o", "x.csv"], None)]
)
def test_an_interrupted_prediction(key, monkeypatch, more, said):
    folder = run(monkeypatch, "retrain", "--cache", key, "--head", "ncm", "--json").json["run"]
    np.save("features.npy", np.zeros((2, 12), np.float32))

    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.predict.Predictor.top", stops)
    done = run(monkeypatch, "predict", "--run", folder, "--features", "features.npy", *more)
    said = said or "what is predicted is kept in x.csv.part, the same command goes on from there"
    assert (done.code, done.err.splitlines()[-1]) == (130, f"coattail: interrupted; {said}")


@pytest.mark.parametrize(
    "arguments", [RETRAIN, COMPARE, SWEEP, ("run", "--cache", "KEY", "--no-report", *FAST)], ids=lambda words: words[0]
)
def test_a_repeated_command(key, monkeypatch, arguments):
    words = [key if word == "KEY" else word for word in arguments]
    first, second = run(monkeypatch, *words), run(monkeypatch, *words)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "coattail: done already: " not in first.err
    (line,) = [line for line in second.err.splitlines() if line.startswith("coattail: done already: ")]
    assert ", from 20" in line
