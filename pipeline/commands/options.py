"""What coattail's command modules share: groups that suggest, the options every command takes, one way to print and to fail."""

import functools
import json
import math
import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

Command = Callable[..., Any]
SHARED = ("train-backbone", "extract")
"""Commands whose work the processes of torchrun share."""


class Commands(click.Group):
    """A group that suggests the closest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {close[0]}?" if close else f"wanted one of: {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"no such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


class Finite(click.FloatRange):
    """A range that nan is not in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return float(number)


def common(command: Command) -> Command:
    """The options of every command that reads settings."""
    options = (
        click.option(
            "--config",
            help="A name or a path to a TOML file; a method may follow: cifar10-lt+ldam-drw.",
        ),
        click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting."),
        click.option("--seed", type=int, help="Seed of everything that is random."),
    )
    return functools.reduce(lambda inner, option: option(inner), reversed(options), output_options(command))


def output_options(command: Command) -> Command:
    """The options of every command."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there."),
        click.option("-q", "--quiet", is_flag=True, help="No progress."),
        click.option("-v", "--verbose", is_flag=True, help="More detail."),
    )

    @functools.wraps(command)
    def wrapped(quiet: bool, verbose: bool, **arguments: Any) -> Any:
        from pipeline.machine.rank import rank, world
        from pipeline.progress import set_verbosity

        name = click.get_current_context().command.name
        if world() > 1 and name not in SHARED:
            raise click.UsageError(f"torchrun is for {' and '.join(SHARED)}; run {name} without it")
        # Of several processes on one terminal, the first one talks.
        set_verbosity(0 if quiet or rank() else 2 if verbose else 1)
        return command(**arguments)

    return functools.reduce(lambda inner, option: option(inner), reversed(options), wrapped)


def show(document: Any, as_json: bool, text: "RenderableType | Callable[[], RenderableType]") -> None:
    """The document as JSON, or the text, or what gives it, for a person; under torchrun the first process's alone."""
    from pipeline.machine.rank import rank

    if rank():
        return
    if as_json:
        click.echo(json.dumps(document))
        return
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    # A pipe has no width; a table cut to 80 columns would lose figures.
    console.width = console.width if console.is_terminal else max(console.width, 120)
    text = text() if callable(text) else text
    console.print(text, soft_wrap=isinstance(text, str))


def fail(text: str, code: int) -> int:
    """The text on stderr, each line with our name before it; the exit code."""
    if speaks():
        for line in text.splitlines():
            click.echo(f"coattail: {line}", err=True)
    return code


def speaks() -> bool:
    """Whether a failure is this process's to print; where one of torchrun's fails, all do, and one says why."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from pipeline.machine.group import speaks_first

    return speaks_first()
