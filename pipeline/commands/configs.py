"""Config init, validate, diff: a config written for what lies there, all that is wrong with one, how two differ."""

import json
from pathlib import Path
from typing import Any

import click

from pipeline.commands.about import config_group
from pipeline.commands.options import Command, HomePath, Options, common, output_options, target_argument
from pipeline.commands.output import say, show
from pipeline.errors import ConfigError


@config_group.command("init", cls=Command)
@output_options
@click.argument("images", metavar="FOLDER|TABLE", type=HomePath())
@click.option("-o", "--output", type=HomePath(), help="The file to write; by default, stdout.")
def config_init(images: Path, output: Path | None, as_json: bool) -> None:
    """Write a commented config for the images in a folder or a table.

    Paths in a file beside the images, or in their folder, are relative to it, so that both can be moved together.
    """
    if not images.exists():
        raise ConfigError(f"{images}: no such file or folder; wanted one of images")
    if output is not None and output.exists():
        raise ConfigError(f"{output}: exists already; move it away, or give another file with --output")
    from pipeline.images.discovery import settings_found
    from pipeline.settings.own_data import commented
    from pipeline.settings.paths import make_relative

    values = settings_found(images)
    if output is not None:
        make_relative(values, output.resolve().parent)
    text = commented(values, str(images))
    if output is not None:
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"{output}: cannot be written ({error.strerror}); give another file with --output"
            ) from None
    if as_json:
        say(json.dumps({"path": None if output is None else str(output), "settings": values}))
    elif output is None:
        say(text.rstrip("\n"))
    else:
        show(None, False, [f"{output}; next: coattail inspect {output}, then coattail run {output}"])


@config_group.command("validate", cls=Command)
@common
@target_argument
def config_validate(options: Options) -> None:
    """Check a config and all paths in it; every problem is a line, and the exit code is 1 where there is one."""
    if options.config is None:
        raise click.UsageError("a config's name or file is wanted")
    from pipeline.commands.which_cache import resolve_settings
    from pipeline.settings.own_data import path_problems

    settings = resolve_settings(options).settings
    if problems := path_problems(settings):
        raise ConfigError(*problems)
    document: dict[str, Any] = {"name": settings.name, "problems": []}
    show(document, options.as_json, [f"{options.config}: no problem found"])


@config_group.command("diff", cls=Command)
@output_options
@click.argument("left")
@click.argument("right")
def config_diff(left: str, right: str, as_json: bool) -> None:
    """The settings in which two configs differ, a line each; a config is a name, a file, or a folder of images."""
    from pipeline.commands.which_cache import resolve_settings
    from pipeline.settings.files import flat

    values = [flat(resolve_settings(Options(name)).settings.model_dump(mode="json")) for name in (left, right)]
    differing = {key: [values[0][key], values[1][key]] for key in values[0] if values[0][key] != values[1][key]}
    lines = [
        f"{key}: {json.dumps(a, ensure_ascii=False)} | {json.dumps(b, ensure_ascii=False)}"
        for key, (a, b) in differing.items()
    ]
    show({"differences": differing}, as_json, lines or ["no difference"])
