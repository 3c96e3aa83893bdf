"""`coattail report`, and the report that `run` ends with."""

import json
import re

import pytest
from in_process import run
from reported import reported

from pipeline.report.evidence import Evidence
from pipeline.report.figures import PICTURES


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("made"))


@pytest.fixture
def here(made, monkeypatch):
    """In the folder of the runs, with one figure in place of all: the others have tests of their own."""
    monkeypatch.chdir(made.runs.parent)
    for name in set(PICTURES) - {"divergence"}:
        monkeypatch.delitem(PICTURES, name)
    return made


def test_a_run_and_a_cache_are_reported(here, monkeypatch):
    folder = here.folders["crt"]
    done = run(monkeypatch, "report", str(folder), "--json")
    assert done.code == 0, done.err
    path = here.runs / "toy" / f"report-{here.cache.key[:12]}.html"
    assert (done.json["report"], done.json["caches"], done.json["methods"]) == (str(path), [here.cache.key], ["crt"])
    page = path.read_text()
    assert "On its test split, cRT is right on" in page
    written = run(monkeypatch, "report", here.cache.key[:6], "--md", "--output", "own.md", "--method", "crt+stg")
    assert re.fullmatch(r"report: own\.md \(\d+\.\d s\)\n", written.out), written.err
    assert "cRT \\+ STG beside" in (here.runs.parent / "own.md").read_text()
    assert [file.name for file in (here.runs.parent / "own-figures").iterdir()] == [
        f"{here.cache.key[:12]}-divergence-1.png"
    ]


def test_the_same_command_writes_the_same_bits(here, monkeypatch):
    pages = []
    for name in ("one.html", "two.html"):
        assert run(monkeypatch, "report", here.cache.key[:6], "--output", name).code == 0
        pages.append((here.runs.parent / name).read_bytes())
    assert pages[0] == pages[1]


def test_the_commands_of_a_report_repeat_its_runs(here, monkeypatch):
    """What is done already is taken as it is, so a repeated command names the same folder and trains nothing."""
    assert run(monkeypatch, "report", here.cache.key[:6], "--output", "own.html").code == 0
    page = (here.runs.parent / "own.html").read_text()
    repeats = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL)[1].strip().splitlines()
    assert [line.split()[1] for line in repeats] == ["train-stg", "retrain", "report"]
    for line, method in zip(repeats[:2], ("stg", "crt+stg"), strict=True):
        done = run(monkeypatch, *line.split()[1:], "--json")
        assert done.code == 0, done.err
        assert done.err.startswith("coattail: done already: ")
        assert json.loads(done.out)["run"].startswith(str(here.runs / "toy" / f"{method}-"))


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nowhere"], 1, "cache nowhere: neither a cache's folder nor the start of a key in "),
        (["STG"], 1, "report wants a run folder of retrain, or a cache"),
        (["KEY", "--method", "knn"], 2, "--method knn: no finished run of this cache has it; wanted one of stage1, lda, crt, crt+stg"),
        (["KEY", "--output", "."], 2, "--output .: wanted a file, found a folder; give a name that ends in .html"),
        ([], 2, "Missing argument 'RUN|SWEEP|CACHE…'"),
    ],
)  # fmt: skip
def test_what_cannot_be_reported_is_one_line(here, monkeypatch, arguments, code, text):
    names = {"STG": str(next(here.runs.glob("*/stg-*"))), "KEY": here.cache.key[:8]}
    done = run(monkeypatch, "report", *(names.get(word, word) for word in arguments))
    assert done.code == code
    assert text in done.err
    assert done.out == ""


FAST = ("--set", "stg.epochs=1", "--set", "retrain.epochs=1", "--augmentation", "noise")


def test_run_ends_with_its_report_unless_it_is_told_not_to(here, monkeypatch, tmp_path):
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path))
    done = run(monkeypatch, "run", "--cache", here.cache.key[:8], *FAST)
    assert done.code == 0, done.err
    path = tmp_path / "blobs" / f"report-{here.cache.key[:12]}.html"
    assert done.out.endswith(f"\nreport: {path}\n")
    assert path.is_file()
    path.unlink()
    assert json.loads(run(monkeypatch, "run", "--cache", here.cache.key[:8], *FAST, "--json").out)["report"] == str(
        path
    )
    path.unlink()
    done = run(monkeypatch, "run", "--cache", here.cache.key[:8], *FAST, "--json", "--no-report")
    assert "report" not in done.json
    assert not path.exists()


def test_a_report_that_fails_is_a_line_and_no_failure(here, monkeypatch, tmp_path):
    def broken(evidence: Evidence):
        raise RuntimeError("no room\nfor ink")

    monkeypatch.setitem(PICTURES, "divergence", broken)
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path))
    done = run(monkeypatch, "run", "--cache", here.cache.key[:8], *FAST)
    assert done.code == 0
    wanted = f"no report: no room for ink; the figures above stand; coattail report {here.cache.key[:12]} tries again"
    assert wanted in done.err.splitlines()
    assert "top-1 % and ECE %" in done.out
