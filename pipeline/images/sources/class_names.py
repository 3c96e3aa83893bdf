"""Class names: one spelling each, no two alike, so that splits and files are matched by name."""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from pipeline.errors import DataError

MARK = "\ufeff"
"""A byte order mark, which some editors leave at the start of a text."""


@lru_cache(maxsize=1 << 16)
def spelled(name: str) -> str:
    """The name with composed accents (Unicode's NFC), without a byte order mark.

    Two file systems or editors write `é` as one character or as two; both mean one class. Bytes of a folder's name that
    are not UTF-8 are written out, so that the name can be stored.
    """
    text = name.encode("utf-8", "backslashreplace").decode()
    return unicodedata.normalize("NFC", text.strip(MARK))


def checked(key: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names, spelled as above. Raises DataError for an empty one, counted from 1, and for two that are the same."""
    number_of: dict[str, int] = {}
    for number, name in enumerate((spelled(name) for name in names), 1):
        if not name.strip():
            raise DataError(f"{key}: name {number} of {len(names)} is empty; take it out, or give it a name")
        if name in number_of:
            raise DataError(
                f"{key}: names {number_of[name]} and {number} are both {name!r}; give each class its own name"
            )
        number_of[name] = number
    return tuple(number_of)


def in_order(names: Sequence[str]) -> list[str]:
    """Text labels in the order of their numbers where all are whole numbers (1, 2, 10), else of their characters."""
    if all(name.isascii() and name.isdecimal() for name in names):
        return sorted(names, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name))
    return sorted(names)
