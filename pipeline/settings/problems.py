"""What is wrong with settings, a line each."""

import difflib
import json
import re
from typing import Any

from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.settings import Settings
from pipeline.settings.files import dotted, flat

PROBLEMS = 20
"""How many problems are named, each with the closest valid key; more are counted."""


def valid_keys() -> list[str]:
    """Every dotted key that a config may hold."""
    return dotted(Settings().model_dump())


def validate(values: dict[str, Any], origins: dict[str, str], problems: list[str]) -> Settings:
    """The settings with these values. Raises ConfigError with the `problems` there are already and those of the values."""
    values = with_new_names(values)
    if not_utf8 := [key for key, value in flat(values).items() if not _is_utf8(value)]:
        named = [
            f"{origins.get(key, 'settings')}: {key}: wanted text in UTF-8, found {short(flat(values)[key], 200)}; rename the "
            "file or folder, or name a link to it"
            for key in not_utf8[:PROBLEMS]
        ]
        raise ConfigError(*problems, *named)
    try:
        text = json.dumps(values, default=str)
    except (ValueError, RecursionError) as error:
        raise ConfigError(*problems, f"settings: cannot be read: {error}") from None
    try:
        # JSON mode lets a list be a tuple and nothing else be anything else: "20" is no integer.
        settings = Settings.model_validate_json(text, strict=True)
    except ValidationError as error:
        named = [_problem(dict(item), origins) for item in error.errors()[:PROBLEMS]]
        if error.error_count() > PROBLEMS:
            named.append(f"settings: {error.error_count() - PROBLEMS} more problems")
        raise ConfigError(*problems, *named) from None
    if problems:
        raise ConfigError(*problems)
    return settings


def _is_utf8(value: Any) -> bool:
    """Whether a text can be written in UTF-8. A path cannot where its bytes are of another encoding."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return False
    return True


def with_new_names(values: dict[str, Any]) -> dict[str, Any]:
    """The values with `data.on_bad` in place of `data.broken`, as caches and runs of earlier versions record it."""
    data = values.get("data")
    if not isinstance(data, dict) or "on_bad" in data or data.get("broken") not in ("error", "skip"):
        return values
    on_bad = "skip" if data["broken"] == "skip" else "fail"
    return {**values, "data": {key: value for key, value in data.items() if key != "broken"} | {"on_bad": on_bad}}


def _problem(error: dict[str, Any], origins: dict[str, str]) -> str:
    key = ".".join(str(part) for part in error["loc"]) or "settings"
    source = next((origins[name] for name in origins if name == key or name.startswith(key + ".")), None)
    source = source or next((origins[name] for name in origins if key.startswith(name + ".")), "settings")
    if error["type"] == "extra_forbidden":
        closest = _closest(key)
        hint = f"; did you mean {closest}?" if closest else "; `config show` lists the keys"
        return f"{source}: {key}: unknown key, found {short(error['input'])}{hint}"
    if error["type"] == "literal_error" and (closest := _closest_value(error)):
        return f"{source}: {key}: found {short(error['input'])}; did you mean {closest}? {_wanted(error)}"
    wanted = _wanted(error)
    if error["type"] == "value_error":
        return f"{source}: {wanted}"
    return f"{source}: {key}: {wanted}, found {short(error['input'])}"


def _wanted(error: dict[str, Any]) -> str:
    """Pydantic's message in our words."""
    text = str(error["msg"]).removeprefix("Value error, ")
    return text.replace("Input should be", "wanted").replace("String should", "wanted text that should")


def _closest_value(error: dict[str, Any]) -> str | None:
    """Of the values that a setting may have, the one that was probably meant."""
    values = re.findall(r"'([^']*)'", error["ctx"]["expected"])
    text = str(error["input"]).lower().replace("_", "-")
    close = difflib.get_close_matches(text, values, n=1)
    return close[0] if close else next((value for value in values if text and value.startswith(text)), None)


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


def short(value: Any, limit: int = 60) -> str:
    """The value as Python writes it, at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
