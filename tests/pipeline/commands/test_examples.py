"""Each command's help begins with an example that the command understands; completion and NO_COLOR."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cli
from pipeline.commands.examples import EXAMPLES
from tests.support import in_process

ROOT = Path(__file__).parents[3]


def _commands(group, words=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(_commands(cli.cli))


def test_every_command_has_an_example_and_every_example_a_command():
    assert {" ".join(words) for words in COMMANDS} == set(EXAMPLES)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_begins_with_an_example_that_the_command_understands(words, monkeypatch):
    first = in_process.run(monkeypatch, *words, "--help").out.splitlines()[0]
    assert first.startswith("Example: coattail ")
    arguments = shlex.split(first.removeprefix("Example: coattail "))
    assert tuple(arguments[: len(words)]) == words
    COMMANDS[words].make_context(
        " ".join(words), arguments[len(words) :]
    )  # raises UsageError for what is not understood


@pytest.mark.parametrize(
    ("shell", "sign"), [("bash", "complete -o nosort"), ("zsh", "#compdef"), ("fish", "complete ")]
)
def test_completion_is_clicks(shell, sign):
    """As `_COATTAIL_COMPLETE=bash_source coattail` prints it for a shell's startup file."""
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)(cli.cli, {}, "coattail", "_COATTAIL_COMPLETE")
    names = {item.value for item in completion.get_completions([], "ex")}
    assert names == {"extract", "export"}
    assert {item.value for item in completion.get_completions(["export"], "--to")} == {"--to"}
    assert {item.value for item in completion.get_completions(["export", "--to"], "")} == {
        "onnx",
        "safetensors",
        "torch-export",
    }
    assert sign in completion.source()


def test_no_color_and_a_pipe_give_no_escapes():
    environment = {**os.environ, "NO_COLOR": "1", "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "cli.py", "cache", "ls"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
