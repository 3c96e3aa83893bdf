"""Which file a name means; TOML in and out."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.paths import home_expanded
from pipeline.settings.suggesting import did_you_mean

LIMIT = 1 << 20
"""Bytes of a config file that are read at most: room for the names of 20,000 classes."""
KEY_PARTS = 64
"""Dotted parts that a key may have; a setting's has two. tomllib takes the square of their number in time."""
_LONG_KEY = re.compile(rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{KEY_PARTS}}}""")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def config_paths(reference: str) -> tuple[Path | None, list[Path]]:
    """The files that `reference` names: a config's, and those of the methods put to it with `+`.

    `+marc` names methods alone: they are put over what a cache records.
    """
    if home_expanded("config file", reference).is_file():
        return config_path(reference), []
    folder, slash, last = reference.rpartition("/")
    name, *added = last.split("+")
    own = None if added and not name and not folder else config_path(f"{folder}{slash}{name}")
    return own, [_method_path(method) for method in added]


def _method_path(name: str) -> Path:
    path = CONFIGS / "methods" / f"{name}.toml"
    if name in methods():
        return path
    hint = did_you_mean(name, methods())
    raise ConfigError(f"method {name!r}: no such method; {hint}wanted one of: {', '.join(methods())}")


def config_path(reference: str) -> Path:
    """The file that `reference` names: a path if it looks like one, else `configs/<reference>.toml`."""
    looks_like_path = "/" in reference or reference.endswith(".toml")
    path = home_expanded("config file", reference) if looks_like_path else CONFIGS / f"{reference}.toml"
    if path.is_file():
        return path
    if looks_like_path:
        raise ConfigError(f"config file {reference}: no such file; give a path to a TOML file or one of: {_names()}")
    hint = did_you_mean(reference, available())
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


def _line(key: str, value: Any, dotted: str, origins: dict[str, str] | None) -> str:
    text = f"{key} = {_toml(value)}"
    return text if origins is None else f"{text:<44} # {origins.get(dotted, 'default')}"


def _toml(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def read_toml(path: Path) -> dict[str, Any]:
    """The values in a TOML file. Raises ConfigError where it cannot be read, is no TOML, or is made to take for ever."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ConfigError(f"config file {path}: wanted a TOML file, found no plain file")
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


def dotted(values: dict[str, Any]) -> list[str]:
    """The dotted keys of the values."""
    return list(flat(values))


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """The values by dotted key, one level deep."""
    dotted_values: dict[str, Any] = {}
    for key, value in values.items():
        dotted_values |= (
            {f"{key}.{name}": inner for name, inner in value.items()} if isinstance(value, dict) else {key: value}
        )
    return dotted_values


def _names() -> str:
    return ", ".join(available()) or "(none)"
