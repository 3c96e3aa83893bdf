"""Text from a user's files: the limits on it, how two texts are compared, and how an error line shows it."""

import json
import unicodedata

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.source import SourceArray

LENGTH = 1024
"""The most characters of a class name, a label or an id."""
SHOWN = 60
"""The most characters of a text that an error line shows."""
MARK = "\ufeff"
"""The byte order mark that some editors write before the first name."""


def shown(value: object) -> str:
    """A value as an error line shows it: on one line, text in quotes, and cut where it is long."""
    text = repr(value[: SHOWN + 1]) if isinstance(value, str) else str(value)
    if isinstance(value, str) and len(value) > SHOWN:
        return f"{value[:SHOWN]!r}… ({len(value)} characters)"
    return text if len(text) <= 2 * SHOWN else f"{text[: 2 * SHOWN]}…"


def comparable(text: str) -> str:
    """A text in the form in which names are compared: accents composed (NFC), no byte order mark, no space around it."""
    return unicodedata.normalize("NFC", text.removeprefix(MARK)).strip()


def texts(array: SourceArray) -> list[str]:
    """The values of an array as text, whole numbers as digits. Raises CacheInvalid for other types and other shapes."""
    if len(array.shape) != 1 or np.dtype(array.dtype).kind not in "iuU":
        raise CacheInvalid(f"{array.where}: wanted text or whole numbers, one a row, found {array.dtype} {array.shape}")
    return [sound(array.where, str(value)) for value in array.read().tolist()]


def sound(where: str, text: str) -> str:
    """The text without a byte order mark. Raises CacheInvalid for a text that is too long, or that no file can hold."""
    if len(text) > LENGTH:
        raise CacheInvalid(f"{where}: wanted at most {LENGTH} characters, found {shown(text)}")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise CacheInvalid(f"{where}: wanted text that a file can hold, found NUL or half a character in {shown(text)}")
    return text.removeprefix(MARK)


def listed(where: str, text: str) -> list[str]:
    """The names in a JSON list, or in a JSON object from number to name."""
    try:
        content = json.loads(text)
        if isinstance(content, dict):
            content = [content[str(number)] for number in range(len(content))]
    except (ValueError, KeyError, RecursionError):
        content = None
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise CacheInvalid(f'{where}: wanted a JSON list of names, or an object {{"0": name, "1": name, …}}')
    return content
