"""Settings from a TOML file and `--set section.key=value`: every problem at once, and where each value came from."""

import copy
import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.errors import ConfigError
from pipeline.settings import Settings

LIMIT = 1 << 20
"""Bytes of a config file that are read at most: room for the names of 20,000 classes."""
KEY_PARTS = 64
"""Dotted parts that a key may have; a setting's has two. tomllib takes the square of their number in time."""
PROBLEMS = 20
"""That are named, and for which the closest valid key is looked up."""
_LONG_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{KEY_PARTS}}}""")
CONFIGS = Path(__file__).resolve().parent.parent / "configs"


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
        values = _read_toml(own)
        values.setdefault("name", own.stem)
        origins = dict.fromkeys(_dotted(values), str(own))
        for path in added:
            for key, value in _flat(_read_toml(path)).items():
                _assign(values, key, value)
                origins[key] = str(path)
    elif base is not None:
        values = copy.deepcopy(base[1])
        origins = dict.fromkeys(_dotted(values), base[0])
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
    settings = _validate(values, origins, problems)
    return Resolved(settings, origins)


def config_paths(reference: str) -> list[Path]:
    """The files that `reference` names: a config's, then those of the methods put to it with `+`."""
    if Path(reference).expanduser().is_file():
        return [config_path(reference)]
    folder, slash, last = reference.rpartition("/")
    name, *added = last.split("+")
    return [config_path(f"{folder}{slash}{name}"), *(_method_path(method) for method in added)]


def _method_path(name: str) -> Path:
    path = CONFIGS / "methods" / f"{name}.toml"
    if name in methods():
        return path
    closest = difflib.get_close_matches(name, methods(), n=1)
    hint = f"did you mean {closest[0]}? " if closest else ""
    raise ConfigError(f"method {name!r}: no such method; {hint}wanted one of: {', '.join(methods())}")


def config_path(reference: str) -> Path:
    """The file that `reference` names: a path if it looks like one, else `configs/<reference>.toml`."""
    looks_like_path = "/" in reference or reference.endswith(".toml")
    path = Path(reference).expanduser() if looks_like_path else CONFIGS / f"{reference}.toml"
    if path.is_file():
        return path
    if looks_like_path:
        raise ConfigError(f"config file {reference}: no such file; give a path to a TOML file or one of: {_names()}")
    closest = difflib.get_close_matches(reference, available(), n=1)
    hint = f"did you mean {closest[0]}? " if closest else ""
    raise ConfigError(
        f"config {reference!r}: no such name; {hint}wanted one of: {_names()}, or a path ending in .toml, "
        f"and perhaps +METHOD, one of: {', '.join(methods())}"
    )


def available() -> list[str]:
    """Names that `--config` takes, without a path."""
    return sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.glob("*.toml"))


def methods() -> list[str]:
    """Names that may follow a config's, after `+`."""
    return sorted(path.stem for path in (CONFIGS / "methods").glob("*.toml"))


def to_toml(settings: Settings, origins: dict[str, str] | None = None) -> str:
    """The settings as TOML; with `origins`, each value's source as a comment."""
    lines: list[str] = []
    sections: list[str] = []
    for name, value in settings:
        if isinstance(value, BaseModel):
            sections += ["", f"[{name}]"]
            sections += [_line(key, item, f"{name}.{key}", origins) for key, item in value]
        else:
            lines.append(_line(name, value, name, origins))
    return "\n".join(lines + sections) + "\n"


def valid_keys() -> list[str]:
    """Every dotted key that a config may hold."""
    return _dotted(Settings().model_dump())


def _line(key: str, value: Any, dotted: str, origins: dict[str, str] | None) -> str:
    text = f"{key} = {_toml(value)}"
    return text if origins is None else f"{text:<44} # {origins.get(dotted, 'default')}"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT + 1)
        if len(content) > LIMIT:
            raise ConfigError(f"config file {path}: larger than {LIMIT} bytes; not a config")
        text = content.decode("utf-8").replace("\r\n", "\n")
        if _LONG_KEY.search(text):
            raise ConfigError(
                f"config file {path}: a key of more than {KEY_PARTS} parts; a setting has two: section.key"
            )
        return tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"config file {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path}: not valid TOML: {error}") from None
    except ConfigError:
        raise
    except (ValueError, RecursionError) as error:  # a number of too many digits; brackets in brackets
        raise ConfigError(f"config file {path}: cannot be read: {error}") from None


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, raw = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text}: wanted section.key=value, such as stage1.epochs=20")
    try:
        return key.strip(), tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), raw.strip()
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--set {_short(text)}: cannot be read: {error}") from None


def _assign(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: {section} is a value, not a section")
    values[last] = value


def _dotted(values: dict[str, Any]) -> list[str]:
    return list(_flat(values))


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
    return found


def _validate(values: dict[str, Any], origins: dict[str, str], problems: list[str]) -> Settings:
    try:
        text = json.dumps(values, default=str)
    except (ValueError, RecursionError) as error:
        raise ConfigError("\n".join([*problems, f"settings: cannot be read: {error}"])) from None
    try:
        # JSON mode lets a list be a tuple and nothing else be anything else: "20" is no integer.
        settings = Settings.model_validate_json(text, strict=True)
    except ValidationError as error:
        found = [_problem(dict(item), origins) for item in error.errors()[:PROBLEMS]]
        if error.error_count() > PROBLEMS:
            found.append(f"settings: {error.error_count() - PROBLEMS} more problems")
        raise ConfigError("\n".join(problems + found)) from None
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def _problem(error: dict[str, Any], origins: dict[str, str]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    source = next((origins[name] for name in origins if name == key or name.startswith(key + ".")), None)
    source = source or next((origins[name] for name in origins if key.startswith(name + ".")), "settings")
    if error["type"] == "extra_forbidden":
        closest = _closest(key)
        hint = f"; did you mean {closest}?" if closest else "; `config show` lists the keys"
        return f"{source}: {key}: unknown key, found {_short(error['input'])}{hint}"
    wanted = error["msg"].removeprefix("Value error, ")
    wanted = wanted.replace("Input should be", "wanted").replace("String should", "wanted text that should")
    if error["type"] == "value_error":
        return f"{source}: {wanted}"
    return f"{source}: {key}: {wanted}, found {_short(error['input'])}"


def _closest(key: str) -> str | None:
    """The valid key that was probably meant: the same name elsewhere, initials such as lr, or a similar spelling."""
    keys = valid_keys()
    section, _, last = key.rpartition(".")
    for other in keys:
        if other.rpartition(".")[2] == last:
            return other
    for other in keys:
        other_section, _, name = other.rpartition(".")
        if other_section == section and "".join(word[0] for word in name.split("_")) == last:
            return other
    candidates = keys if section else keys + sorted({other.split(".")[0] for other in keys if "." in other})
    matches = difflib.get_close_matches(key, candidates, n=1, cutoff=0.75)
    return matches[0] if matches else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names() -> str:
    return ", ".join(available()) or "(none)"
