"""The pages of documentation: their commands run, their files and links exist, the error texts that they quote are the code's."""

import ast
import re
import runpy
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from PIL import Image

import cli
from pipeline.report.figures import PICTURES
from tests.support import in_process

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "reference"}
EVERY = {**PAGES, "README": (ROOT / "README.md").read_text()}
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = {
    "coattail demo": "half a minute; CI runs it, as `make demo`, from a clean clone",
    "coattail run --config photos.toml": "trains stage 1; tests/whole/test_end_to_end.py does",
    "coattail cache rm 612d": "asks at a terminal; tests/pipeline/commands/test_caches.py answers",
}
"""A command of a page that this test leaves out -> why."""
KEY = "612d"
"""What every page writes for the key of the demo's cache."""


def commands(text):
    """The lines of fenced blocks that call coattail, without what is behind a #."""
    blocks = "\n".join(content for _, content in FENCED.findall(text))
    return [line.partition(" #")[0].strip() for line in blocks.splitlines() if line.startswith("coattail ")]


def files(text):
    """(name, content) of each block of code that names its file in its first line."""
    blocks = [content for kind, content in FENCED.findall(text) if kind in ("toml", "python")]
    return [(match[1], content) for content in blocks if (match := re.match(r"# (\S+\.\w+)\n", content))]


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page, text in EVERY.items() for command in commands(text)]
)
def test_every_command_is_understood(page, command):
    """By click: there is such a command, and its options are called so."""
    words, group = shlex.split(command)[1:], cli.cli
    name = ""
    while isinstance(group, click.Group):
        name = words.pop(0)
        assert name in group.commands, command
        group = group.commands[name]
    group.make_context(name, words)


def test_what_is_not_run_is_in_a_page():
    assert set(NOT_RUN) <= {command for text in PAGES.values() for command in commands(text)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder with a cache of digits and its backbone, as the demo leaves them but for the length of stage 1."""
    place = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _own_folders(patch, place)
        changes = ("--set", "stage1.epochs=1", "--set", "stg.epochs=2", "--set", "retrain.epochs=1")
        made = in_process.run(patch, "train-backbone", "--config", "digits-lt", *changes, "--json", "-q")
    assert made.code == 0, made.err
    draw = np.random.default_rng(0)
    for name, count in (("cat", 6), ("dog", 4)):
        (place / "photos" / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "photos" / name / f"{number}.png")
    (place / "place").mkdir()
    return place, made.json["cache"]


def _own_folders(patch, place):
    patch.setenv("COATTAIL_STORES", str(place / "stores"))
    patch.setenv("COATTAIL_RUNS", str(place / "runs"))


@pytest.fixture
def here(demo, monkeypatch):
    """In that folder, with one figure of the report in place of all: each has a test of its own."""
    place, key = demo
    monkeypatch.chdir(place)
    _own_folders(monkeypatch, place)
    for name in set(PICTURES) - {"class-counts"}:
        monkeypatch.delitem(PICTURES, name)
    return place, key


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page, here, monkeypatch, s3):
    place, key = here
    for name, content in files(PAGES[page]):
        (place / name).write_text(content)
        if name.endswith(".py"):
            runpy.run_path(str(place / name))
    for command in commands(PAGES[page]):
        if command in NOT_RUN:
            continue
        text = command.replace("s3://team/features", s3.url)
        if " RUN" in text:
            text = text.replace(" RUN", f" {next(place.glob('runs/*/lda-*'))}")
        words = [word.replace("KEY", key) for word in shlex.split(text)[1:]]
        words = [re.sub(rf"\b{KEY}\b", key[:12], word) for word in words]
        done = in_process.run(monkeypatch, *words)
        assert done.code == 0, f"{command}: {done.err}"


@pytest.mark.parametrize("page", EVERY)
def test_links_lead_somewhere(page):
    folder = ROOT if page == "README" else ROOT / "docs"
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", EVERY[page]) if "://" not in target]
    assert [target for target in targets if not (folder / target.partition("#")[0]).exists()] == []


def test_tests_that_are_named_exist():
    named = {path for text in PAGES.values() for path in re.findall(r"`(tests/[\w/]+\.py)`", text)}
    assert len(named) > 5
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_every_page_is_linked_from_the_readme():
    assert [page for page in PAGES if f"](docs/{page}.md)" not in EVERY["README"]] == []


def texts_of_the_code():
    """Every text of the code, with … where a value stands in it."""
    for folder in ("cache", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def holds(text, quoted):
    """Whether the parts of a quote, between …, stand in the text in their order."""
    place = 0
    for part in filter(None, (part.strip() for part in quoted.split("…"))):
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


QUOTED = re.findall(r"^\*\*`(.+?)`\*\*$", PAGES["troubleshooting"], re.MULTILINE)


def test_errors_that_are_quoted_are_those_of_the_code():
    texts = list(texts_of_the_code())
    assert len(QUOTED) > 35
    assert [quoted for quoted in QUOTED if not any(holds(text, quoted) for text in texts)] == []


def test_a_quote_of_nothing_is_seen():
    assert holds("cache …: being written; wait", "cache …: being … wait")
    assert not holds("cache …: being written; wait", "wait … being")


def test_each_quote_has_a_cause_and_stands_once():
    assert len(set(QUOTED)) == len(QUOTED)
    entries = PAGES["troubleshooting"].split("\n**`")[1:]
    assert [entry for entry in entries if len(entry.partition("`**\n")[2].split()) < 6] == []
