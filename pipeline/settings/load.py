"""Settings from a TOML file and `--set section.key=value`: every problem at once, and where each value came from."""

import copy
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache import Manifest
from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import config_paths, dotted, flat, read_toml
from pipeline.settings.paths import PATHS, absolute, make_absolute
from pipeline.settings.problems import short, validate


@dataclass(frozen=True)
class Resolved:
    """Settings and, for each dotted key that is not at its default, where its value came from."""

    settings: Settings
    origins: dict[str, str]
    given: tuple[str, ...] = ()
    """The dotted keys that the user wrote on the command line."""


@dataclass
class _Reading:
    """Values as they are put one over the other, with their origins and what is wrong with them."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    def config(self, path: Path) -> None:
        """Begin with a config file."""
        self.values = read_toml(path)
        make_absolute(self.values, str(path), path.resolve().parent)
        self.values.setdefault("name", path.stem.encode("utf-8", "replace").decode())
        self.origins = dict.fromkeys(dotted(self.values), str(path))

    def method(self, path: Path) -> None:
        """Put the file of a method over it."""
        for key, value in flat(read_toml(path)).items():
            _assign(self.values, key, value)
            self.origins[key] = str(path)

    def text(self, text: str, option: str | None = None) -> None:
        """Put `section.key=value` over them: of --set, or of an option of its own, which is named by the key."""
        try:
            key, value = _parse_override(text)
            of_backbone = key.startswith("backbone.")
            source = option or ("--backbone" if of_backbone else f"--{key.rpartition('.')[2].replace('_', '-')}")
            if key in self.given:
                raise ConfigError(f"{source}: {key} is given twice; give it once")
            if isinstance(value, str):
                value = absolute(key, value, source, Path.cwd()) if key in _PATHS else value
            _assign(self.values, key, value)
            self.origins[key] = source
            self.given.append(key)
        except ConfigError as error:
            self.problems.append(str(error))


_PATHS = tuple(".".join(path) for path in PATHS)


def load(
    reference: str | None = None,
    overrides: Iterable[str] = (),
    seed: int | None = None,
    base: tuple[str, dict[str, Any]] | None = None,
    chosen: Iterable[str] = (),
    preset: Iterable[str] = (),
) -> Resolved:
    """Settings from `reference` (a name in `configs/`, or a path; None: the defaults), then `overrides`, then `seed`.

    `cifar10-lt+ldam-drw+sam`: then those of `configs/methods/ldam-drw.toml`, then of `sam.toml`, over the first.
    `base`, a source's name and its values, stands in for a file; `+marc` puts a method over it. `chosen` are overrides that
    have an option of their own, `preset` those that a command puts over a file's before the user's. Paths in a file are
    relative to its folder.

    Raises ConfigError with a line for each problem: file, key, what is wanted, what was found, the closest valid key.
    """
    reading = _Reading()
    own, added = (None, []) if reference is None else config_paths(reference)
    if own is not None:
        reading.config(own)
    elif added and base is None:
        raise ConfigError(
            f"config {reference}: a method alone goes over what a cache records; name the cache with --cache, or put a "
            f"config before it, such as cifar10-lt{reference}"
        )
    elif base is not None:
        reading.values = copy.deepcopy(base[1])
        reading.origins = dict.fromkeys(dotted(reading.values), base[0])
    for path in added:
        reading.method(path)
    for text in preset:
        reading.text(text, "preset")
    reading.given.clear()
    for text in chosen:
        reading.text(text)
    for text in overrides:
        reading.text(text, "--set")
    if seed is not None:
        if "seed" in reading.given:
            reading.problems.append("--seed: seed is given twice; give it once")
        reading.given.append("seed")
        reading.values["seed"] = seed
        reading.origins["seed"] = "--seed"
    settings = validate(reading.values, reading.origins, reading.problems)
    return Resolved(settings, reading.origins, tuple(reading.given))


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: wanted section.key=value, such as stage1.epochs=20")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"--set {short(text)}: wanted text in UTF-8; give another name, such as a link's") from None
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


def recorded_settings(manifest: Manifest) -> tuple[str, dict[str, Any]]:
    """What a cache's settings are called in messages, and the settings that it was made with: a base for `load`."""
    values = dict(manifest.provenance.settings)
    values.setdefault("name", manifest.provenance.name)
    values.pop("device", None)  # that of another machine, perhaps
    if "stage1" in values:  # recorded before there were other coordinates than the features' own
        values.setdefault("coordinates", "raw")
    return f"cache {manifest.key[:12]}", values
