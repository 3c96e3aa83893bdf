"""The pages of documentation: their commands are understood, their files and links exist, the error texts that they quote are the
code's. tests/whole/test_commands_run.py runs the commands."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

import cli
from tests.support.toy_project import commands_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "docs").glob("*.md")) if path.stem != "reference"}
EVERY = {**PAGES, "README": (ROOT / "README.md").read_text()}


@pytest.mark.parametrize(
    ("page", "command"), [(page, command) for page, text in EVERY.items() for command in commands_of(text)]
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
