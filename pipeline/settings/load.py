"""Settings from a TOML file and `--set section.key=value`: every problem at once, and where each value came from."""

import copy
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import config_paths, dotted, flat, read_toml
from pipeline.settings.problems import short, validate


@dataclass(frozen=True)
class Resolved:
    """Settings and, for each dotted key that is not at its default, where its value came from."""

    settings: Settings
    origins: dict[str, str]


def load(
    reference: str | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    base: tuple[str, dict[str, Any]] | None = None,
) -> Resolved:
    """Settings from `reference` (a name in `configs/`, or a path; None: the defaults), then `overrides`, then `seed`.

    `cifar10-lt+ldam-drw+sam`: then those of `configs/methods/ldam-drw.toml`, then of `sam.toml`, over the first.
    `base`, a source's name and its values, stands in for a file.

    Raises ConfigError with a line for each problem: file, key, what is wanted, what was found, the closest valid key.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    if reference is not None:
        own, *added = config_paths(reference)
        values = read_toml(own)
        values.setdefault("name", own.stem)
        origins = dict.fromkeys(dotted(values), str(own))
        for path in added:
            for key, value in flat(read_toml(path)).items():
                _assign(values, key, value)
                origins[key] = str(path)
    elif base is not None:
        values = copy.deepcopy(base[1])
        origins = dict.fromkeys(dotted(values), base[0])
    for text in overrides:
        try:
            key, value = _parse_override(text)
            _assign(values, key, value)
            origins[key] = "--set"
        except ConfigError as error:
            problems.append(str(error))
    if seed is not None:
        values["seed"] = seed
        origins["seed"] = "--seed"
    settings = validate(values, origins, problems)
    return Resolved(settings, origins)


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: wanted section.key=value, such as stage1.epochs=20")
    try:
        return key.strip(), tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), raw.strip()
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--set {short(text)}: cannot be read: {error}") from None


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: {section} is a value, not a section")
    values[last] = value
