"""Paths in settings: those in a TOML file are relative to the file, those on the command line to the working folder."""

import glob
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

PATHS = (
    ("data", "train"),
    ("data", "val"),
    ("data", "test"),
    ("data", "root"),
    ("backbone", "weights"),
    ("evaluate", "prior"),
)
"""Section and key of every setting that may name a file or a folder."""
WEIGHTS = ".safetensors"
"""How a file of weights ends; other texts in `backbone.weights` are names of ready-made ones."""
SOMETIMES = {"backbone.weights": WEIGHTS, "evaluate.prior": ".json"}
"""Settings that name a file only where their text ends so."""


def home_expanded(where: str, text: str) -> Path:
    """The path with `~` replaced. Raises ConfigError, naming `where`, for a user there is not and for a NUL character."""
    if "\0" in text:
        raise ConfigError(f"{where}: a path cannot hold a NUL character, found {text[:60]!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(
            f"{where} {text}: no user {text[1:].partition('/')[0]!r}, whose home folder ~ would name; write the path out"
        ) from None


def make_absolute(values: dict[str, Any], where: str, folder: Path) -> None:
    """Change relative paths among these settings, read from the source `where`, to absolute ones under `folder`.

    `~…` and `$VARIABLE…` stay as they are, for they mean the same from everywhere; other texts, such as the name of
    ready-made weights, are no paths. Raises ConfigError for text that can be no path.
    """
    for section, key in PATHS:
        inside = values.get(section)
        if isinstance(inside, dict) and isinstance(text := inside.get(key), str):
            inside[key] = absolute(f"{section}.{key}", text, where, folder)


def absolute(key: str, text: str, where: str, folder: Path) -> str:
    """One setting's text, as `make_absolute` changes it."""
    if not text or not text.endswith(SOMETIMES.get(key, "")):
        return text
    path = home_expanded(f"{where}: {key}", text)
    if path.is_absolute() or text[0] in "~$":
        return _in_utf_8(f"{where}: {key}", text)
    # The folder holds no links, so its parent is what `..` means.
    while text.startswith("../") and folder.is_absolute():
        folder, text = folder.parent, text[3:].lstrip("/")
    # A folder's own name may hold what a pattern gives a meaning.
    root = glob.escape(str(folder)) if glob.has_magic(text) else str(folder)
    return _in_utf_8(f"{where}: {key}", str(Path(root) / text))


def make_relative(values: dict[str, Any], folder: Path) -> None:
    """Change absolute paths among these settings to relative ones, where they lead into `folder` or to its neighbours.

    A config that lies in `folder` and its images can then be moved together. What is further away stays absolute.
    `make_absolute` is the inverse.
    """
    for section, key in PATHS:
        inside = values.get(section)
        if isinstance(inside, dict) and isinstance(text := inside.get(key), str):
            inside[key] = _relative(text, folder)


def _relative(text: str, folder: Path) -> str:
    for beginning, up in ((folder, ""), (folder.parent, "../")):
        if beginning == Path(beginning.anchor):  # all paths would lead into it
            break
        # A pattern has the folder's own name escaped.
        for written in (str(beginning), glob.escape(str(beginning))):
            if text in (written, f"{written}/"):
                return up or "."
            if text.startswith(f"{written}/"):
                inner = text.removeprefix(f"{written}/")
                # A word that begins so would mean something else.
                return text if not up and inner[0] in "~$" else up + inner
    return text


def _in_utf_8(where: str, text: str) -> str:
    """The text, which is recorded in TOML and in a cache's manifest. Raises ConfigError where UTF-8 has no place for it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(
            f"{where}: wanted a path in UTF-8, found {text!r}; rename the folder, or name it by a link"
        ) from None
    return text
