"""The report of a sweep."""

import json
import re

import pytest
from html_page import ParsedPage
from in_process import run
from reported import HOSTILE, reported

from pipeline.report.html import html
from pipeline.report.markdown import in_markdown
from pipeline.report.sweep_page import Swept, sweep_page
from pipeline.sweeping.record import GridPlace, SweepResult


def place(method, score, chosen=False, **values):
    mean = {"accuracy": 50.0, "balanced_accuracy": 40.0, "many": 60.0, "medium": None, "few": 20.0, "ece": 5.0}
    return GridPlace(
        method=method, settings="0" * 12, values={"method": method, **values}, seeds=[0, 1], score=score, mean=mean,
        seconds=2.0, chosen=chosen, runs=["/runs/toy/crt-0", "/runs/toy/crt-1"],
    )  # fmt: skip


@pytest.fixture
def result():
    """Two places, of which the first is chosen on val."""
    return SweepResult(
        file="grid.toml", dataset="toy", cache="0123456789abcdef", selected_on="val", metric="balanced", why_not=None,
        warning=None, varied=["method", "seed"], points=5, failures=[{"point": "method=lws", "error": "the loss"}],
        places=[place("crt", 72.04, True), place("lda", 70.0)],
    )  # fmt: skip


def test_the_first_paragraph_says_what_was_chosen(result, tmp_path):
    page = sweep_page(Swept(tmp_path / "sweep-0", result))
    assert page.summary == (
        "5 combinations of settings were to be trained on cache 0123456789ab, 1 of them failed; 4 are done, in 2 places of the "
        "grid: a place is one combination, whatever its seed. crt is chosen by balanced accuracy on val: 72.0 % there. The next "
        "place is 2.0 points below it. On the test split, which chose nothing, it is right on 50.0 % of the rows, and on 20.0 % "
        "in the mean of the few-shot classes."
    )
    failed = next(section for section in page.sections if section.heading == "What failed")
    assert failed.table.rows == (("method=lws", "the loss"),)


def test_a_choice_on_test_and_no_choice_say_so(result, tmp_path):
    on_test = result.model_copy(update={"selected_on": "test", "warning": "it is optimistic"})
    summary = sweep_page(Swept(tmp_path, on_test)).summary
    assert summary.endswith("Warning: it is optimistic.")
    assert "which chose nothing" not in summary
    unchosen = [one.model_copy(update={"chosen": False}) for one in result.places]
    none = result.model_copy(update={"selected_on": None, "why_not": "no split val", "places": unchosen})
    assert sweep_page(Swept(tmp_path, none)).summary.endswith("Nothing is chosen: no split val.")


def test_a_chosen_run_that_was_changed_is_not_passed_over(result, tmp_path):
    heading = "Settings of the chosen place that are not the defaults"
    about = Swept(tmp_path / "sweep-0", result)
    assert heading not in [section.heading for section in sweep_page(about).sections]
    (tmp_path / "crt-0").mkdir()
    (tmp_path / "crt-0" / "metrics.json").write_text('{"accuracy": 50.0')
    shown = {section.heading: section.text for section in sweep_page(about).sections}
    assert shown[heading].startswith(f"Not shown: {tmp_path / 'crt-0' / 'metrics.json'}: ")


def test_hostile_names_are_text(result, tmp_path):
    """A sweep's folder may come from anybody."""
    places = [place(name, 50.0 + number, number == 1, **{name: name}) for number, name in enumerate(HOSTILE)]
    (tmp_path / "sweep.toml").write_text("# " + "\n# ".join(name.replace("\n", " ") for name in HOSTILE))
    hostile = result.model_copy(
        update={"dataset": HOSTILE[0], "file": HOSTILE[1], "varied": ["method", *HOSTILE], "places": places}
    )
    page = sweep_page(Swept(tmp_path, hostile))
    parsed = ParsedPage(html([page]))
    assert parsed.wrong == []
    parsed.check_nothing_is_fetched_or_listens()
    parsed.check_names_are_text()
    assert "<script>alert(1)</script>" in parsed.text
    assert len(parsed.ids) == len(set(parsed.ids))
    text, files = in_markdown([page], "figures")
    shown = text[: text.index("## The file of the sweep")]  # a block of code, where signs mean nothing
    assert not re.search(r"(?<!\\)<", shown)
    assert set(re.findall(r"\]\(figures/([^)]+)\)", text)) == set(files)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return reported(tmp_path_factory.mktemp("swept"), arms=(("stage1", "none"),))


def test_a_sweep_is_reported_by_its_folder(made, monkeypatch):
    monkeypatch.chdir(made.runs.parent)
    made.runs.parent.joinpath("grid.toml").write_text("methods = ['lda', 'ncm']\n[retrain]\nseeds = 1\n")
    done = run(monkeypatch, "sweep", "grid.toml", "--cache", made.cache.key[:8], "--json")
    assert done.code == 0, done.err
    folder = json.loads(done.out)["folder"]
    told = run(monkeypatch, "report", folder, "--json")
    assert told.code == 0, told.err
    assert (told.json["sweeps"], told.json["caches"], told.json["methods"]) == ([folder], [made.cache.key], [])
    page = ParsedPage(
        (made.runs / "blobs" / f"{folder.rpartition('/')[2]}.html").parent.joinpath(told.json["report"]).read_text()
    )
    assert page.wrong == []
    assert page.tags.count("svg") == 1
    assert f"coattail sweep runs/{folder.partition('/runs/')[2]}/sweep.toml --cache {made.cache.key[:12]}" in page.text
    named = "Settings of the chosen place that are not the defaults"
    assert named in page.text
    refused = run(monkeypatch, "report", folder, "--method", "lda")
    assert refused.err.startswith(
        f"coattail: {folder}: is a sweep, whose report shows every method; leave out --method"
    )
    slip = run(monkeypatch, "report", "grid.toml")
    assert (slip.code, slip.err) == (
        2,
        "coattail: grid.toml: wanted the folder of a sweep, such as runs/NAME/sweep-KEY, which sweep prints last\n",
    )


def test_the_commands_of_the_page_repeat_the_sweep(made, monkeypatch):
    """Nothing is trained anew, and the folder is the same one."""
    monkeypatch.chdir(made.runs.parent)
    made.runs.parent.joinpath("grid.toml").write_text("methods = ['lda', 'ncm']\n[retrain]\nseeds = 1\n")
    folder = json.loads(run(monkeypatch, "sweep", "grid.toml", "--cache", made.cache.key[:8], "--json").out)["folder"]
    again = run(monkeypatch, "sweep", f"{folder}/sweep.toml", "--cache", made.cache.key[:12], "--json")
    assert json.loads(again.out)["folder"] == folder
    assert "2 points, 2 done already" in again.err
