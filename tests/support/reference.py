"""docs/reference.md, made from the code: every command with its options, every setting with its default.

`python -m tests.support.reference` writes the page anew.
"""

import ast
import inspect
import itertools
import textwrap
from pathlib import Path

import click
from pydantic import BaseModel

from cli import cli
from pipeline.settings import Settings

WIDTH = 100
"""Columns of the help, whatever the terminal has."""
CLICK = "8.5"
"""The version of click in whose words the page has the help; others word some of it in another way."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference.md"


def texts_of(section: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field of a section of settings."""
    body = ast.parse(textwrap.dedent(inspect.getsource(section))).body[0].body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def settings_lines(section: type[BaseModel], prefix: str = "") -> list[str]:
    """A line for each setting: name, default, what it means."""
    texts = {}
    for base in reversed(section.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            texts |= texts_of(base)
    lines = []
    for name, field in section.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            lines += settings_lines(type(default), f"{prefix}{name}.")
        else:
            text = f" {texts[name]}" if name in texts else ""
            lines.append(f"- `{prefix}{name}` = `{default!r}`.{text}")
    return lines


def command_lines(command: click.Command, name: str, parent: click.Context | None = None) -> list[str]:
    """A command's help and options; those of a group's commands follow."""
    settings = {"terminal_width": WIDTH, **command.context_settings}
    context = click.Context(command, parent, info_name=name.split()[-1], **settings)
    lines = ["", f"### {name}", "", "```", command.get_help(context).rstrip(), "```"]
    if isinstance(command, click.Group):
        for child in sorted(command.commands):
            lines += command_lines(command.commands[child], f"{name} {child}", context)
    return lines


def page() -> str:
    """The whole page."""
    head = ["# Reference", "", "Made by `python -m tests.support.reference` from the code.", "", "## Settings", ""]
    return "\n".join([*head, *settings_lines(Settings), "", "## Commands", *command_lines(cli, "coattail"), ""])


if __name__ == "__main__":
    PAGE.write_text(page())
