"""Options that several commands of the stages share, and what is wanted where an option is missing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from pipeline.commands.options import Options

VIEW_DIGITS = 9
"""Digits of a number of views, at most; of a longer text so many characters are shown."""


def cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--cache`, by default the cache that the config's settings made."""
    return click.option("--cache", "reference", help="A cache's folder, key, start of its key, or s3://…/KEY.")(command)


def classifier_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those settings of stage 3 that have an option of their own."""
    from pipeline.settings.used import AUGMENTATIONS, HEADS

    command = click.option("--seeds", type=int, help="How many seeds to train side by side.")(command)
    command = click.option("--augmentation", help=f"{', '.join(AUGMENTATIONS)}.")(command)
    return click.option("--head", help=f"{', '.join(HEADS)}.")(command)


def test_views_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--test-views`, as `views`: a number or `all`."""
    return click.option(
        "--test-views",
        "views",
        default="1",
        metavar="N|all",
        callback=lambda _context, _parameter, text: _views(text),
        help="Average probabilities over so many views of each row: the clean one, then moved and mirrored.  [default: 1]",
    )(command)


def _views(text: str) -> int | str:
    if text == "all":
        return text
    if not text.isdecimal() or len(text) > VIEW_DIGITS or int(text) < 1:
        raise click.BadParameter(f"wanted all or a whole number of at least 1, found {text[:VIEW_DIGITS]!r}")
    return int(text)


def with_settings(options: Options, chosen: dict[str, str | int | None]) -> Options:
    """The options, with the settings of stage 3 that were given as options of their own, such as `--head lws`."""
    texts = tuple(f"retrain.{name}={value}" for name, value in chosen.items() if value is not None)
    return replace(options, chosen=texts)


def with_config(options: Options) -> Options:
    """The options, if they name a config. Raises click.UsageError, which lists the configs, where they do not."""
    if options.config is None:
        from pipeline.settings.files import available, methods

        raise click.UsageError(
            f"--config is wanted: a path to a TOML file, or one of {', '.join(available())}; "
            f"perhaps with +METHOD: {', '.join(methods())}"
        )
    return options


def config_or_cache(options: Options, reference: str | None) -> Options:
    """The options, if a config or a cache is named. Raises click.UsageError where neither is."""
    if options.config is None and reference is None:
        raise click.UsageError("--config or --cache is wanted: which features to train on")
    return options
