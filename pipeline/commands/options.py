"""The options that commands share, and groups that suggest the closest command."""

import functools
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from pipeline.commands.examples import EXAMPLES
from pipeline.commands.failures import stoppable
from pipeline.errors import ConfigError
from pipeline.settings.suggesting import did_you_mean

Function = Callable[..., Any]
SHARED = ("train-backbone", "extract")
"""Commands whose work the processes of torchrun share."""
KEEP_NOTHING = ("evaluate", "predict", "export", "inspect", "report")
"""Commands whose work is lost where they are interrupted. With -o FILE, predict keeps it, and says so."""
NOTHING_KEPT = "nothing is kept, the same command begins again"
SUMMARY = 1000
"""Characters of a command's summary in --help: the whole sentence."""


@dataclass(frozen=True)
class Options:
    """What the command line says of the settings, and whether the answer is JSON."""

    config: str | None = None
    overrides: tuple[str, ...] = ()
    """`--set` texts, `section.key=value`."""
    seed: int | None = None
    as_json: bool = False
    chosen: tuple[str, ...] = ()
    """Settings that have an option of their own, such as `retrain.head=lws` for `--head lws`."""
    preset: tuple[str, ...] = ()
    """Settings that the command itself puts over the config's, and under the user's."""
    backbone: str | None = None
    """The short name of a backbone, as `--backbone` has it."""


class _WithHelp(click.Command):
    """-h is --help, also where a command is called without the program that it belongs to: click keeps what it sees first."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        return ["-h", "--help"]


class Command(_WithHelp):
    """A command that refuses text which cannot be a path, and an option that is given twice (click would take the last silently).

    Its help begins with an example.
    """

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if example := EXAMPLES.get(_words(ctx)):
            formatter.write(f"Example: coattail {example}\n\n")
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for text in args:
            _check_text(text)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option in order:
            single = isinstance(option, click.Option) and not option.multiple and not option.is_flag
            if single and order.count(option) > 1:
                raise click.UsageError(f"{option.opts[0]} is given {order.count(option)} times; give it once", ctx)
        return super().parse_args(ctx, args)


class Commands(_WithHelp, click.Group):
    """A group that suggests the closest command and shows whole summaries."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            close = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"did you mean {close[0]}?" if close else f"wanted one of: {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"no such command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows.append((name, command.get_short_help_str(SUMMARY)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Finite(click.FloatRange):
    """A range of numbers that refuses nan."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return float(number)


class Choice(click.Choice):
    """One of several names; the closest is suggested for another."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        names = [str(name) for name in self.choices]
        if value not in names:
            self.fail(f"{value!r}; {did_you_mean(str(value), names)}wanted one of {', '.join(names)}", param, ctx)
        return super().convert(value, param, ctx)


class HomePath(click.Path):
    """A path whose `~` is the home folder: a shell leaves it in `--run=~/runs/mine`."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return path.expanduser() if isinstance(path, Path) else path


def common(command: Function) -> Function:
    """The options of every command that reads settings; the command gets them as one `options: Options`."""
    declared = (
        click.option(
            "--config",
            help="A name or a path to a TOML file; a method may follow: cifar10-lt+ldam-drw.",
        ),
        click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override a setting."),
        click.option("--seed", type=int, help="Seed of everything that is random."),
    )

    @functools.wraps(command)
    def gathered(
        config: str | None, overrides: tuple[str, ...], seed: int | None, as_json: bool, **arguments: Any
    ) -> Any:
        return command(options=Options(config, overrides, seed, as_json), **arguments)

    return functools.reduce(lambda inner, option: option(inner), reversed(declared), output_options(gathered))


def target_argument(command: Function) -> Function:
    """An argument that stands for --config: a config's name or file, or a folder or table of images."""

    @functools.wraps(command)
    def with_target(target: str | None, options: Options, **arguments: Any) -> Any:
        if target is not None and options.config is not None:
            raise click.UsageError(f"{target} and --config {options.config}: give one of them")
        return command(options=options if target is None else replace(options, config=target), **arguments)

    return click.argument("target", required=False, metavar="[CONFIG|FOLDER|TABLE]")(with_target)


def output_options(command: Function) -> Function:
    """The options of every command."""
    declared = (
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, nothing else there."),
        click.option("-q", "--quiet", is_flag=True, help="No progress."),
        click.option("-v", "--verbose", is_flag=True, help="More detail."),
    )

    @functools.wraps(command)
    def wrapped(quiet: bool, verbose: bool, **arguments: Any) -> Any:
        from pipeline.machine.rank import rank, world
        from pipeline.progress import on_interrupt, set_verbosity

        name = click.get_current_context().command.name
        if world() > 1 and name not in SHARED:
            raise click.UsageError(f"torchrun is for {' and '.join(SHARED)}; run {name} without it")
        # Of several processes on one terminal, the first one talks.
        set_verbosity(0 if quiet or rank() else 2 if verbose else 1)
        keeps_nothing = _words(click.get_current_context()) in KEEP_NOTHING
        with stoppable(), on_interrupt(NOTHING_KEPT) if keeps_nothing else nullcontext():
            return command(**arguments)

    return functools.reduce(lambda inner, option: option(inner), reversed(declared), wrapped)


def _words(ctx: click.Context) -> str:
    """The words that a command is called by, such as `cache ls`."""
    words: list[str] = []
    within: click.Context | None = ctx
    while within is not None and within.parent is not None:  # the outermost is the program, whatever it is called
        words.insert(0, within.info_name or "")
        within = within.parent
    return " ".join(words)


def _check_text(text: str) -> None:
    """Refuse text that cannot be a path: a NUL in it, or `~USER` where there is no such user."""
    if "\0" in text:
        raise ConfigError(f"{text[:60]!r}: a path or value cannot hold a NUL character")
    path = text.rpartition("=")[2]
    if path[:1] == "~":
        try:
            Path(path).expanduser()
        except RuntimeError:
            raise ConfigError(
                f"{text}: no user {path[1:].partition('/')[0]!r}, whose home folder ~ would name; write the path out, or "
                "begin it with ./ where a file is called so"
            ) from None
