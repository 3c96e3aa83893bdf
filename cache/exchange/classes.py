"""Which class has which number: class names as people keep them, and the matching of two lists of names by name.

A list of names says what the class numbers beside it mean. Two files may number the same classes differently, so that
numbers are carried from one list to the other by the names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cache.errors import CacheInvalid
from cache.exchange.formats import check_regular
from cache.exchange.gather import only
from cache.exchange.source import SourceArray
from cache.exchange.texts import comparable, listed, shown, sound, texts

CLASS_LIMIT = 1 << 20
"""A label beyond this is a mistake, not a class."""
JSON_BYTES = 64 << 20
"""The largest file of class names that is read."""
DIGITS = 18
"""The longest digit string that is taken as a number."""


@dataclass(frozen=True)
class Named:
    """Class names in label order, and for people where they stand."""

    where: str
    names: tuple[str, ...]

    def positions(self) -> dict[str, int]:
        """Name, in the form that is compared -> its number. Raises CacheInvalid where two classes have one name."""
        found: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if (other := found.setdefault(comparable(name), number)) != number:
                raise CacheInvalid(
                    f"{self.where}: classes {other} and {number} are both called {shown(name)}, so that names cannot say "
                    "which is meant; give each a name of its own"
                )
        return found


def names_in_file(file: Path, columns: Mapping[str, str]) -> Named:
    """The names of `--classes FILE`: JSON, a name a line, or an array."""
    if file.suffix == ".json":
        return named(str(file), _json(file))
    return named_array(only(file, "classes", columns))


def named_array(array: SourceArray) -> Named:
    """The names that an array of text, or a metadata entry read as one, holds."""
    return named(array.where, texts(array))


def named(where: str, names: list[str]) -> Named:
    """The names, checked: 1 to CLASS_LIMIT, none blank, and no two that differ only in how an accent is written."""
    if not 0 < len(names) <= CLASS_LIMIT:
        raise CacheInvalid(f"{where}: wanted 1 to {CLASS_LIMIT} class names, found {len(names)}")
    kept = tuple(sound(where, name) for name in names)
    spelled: dict[str, int] = {}
    for number, name in enumerate(kept):
        if not comparable(name):
            raise CacheInvalid(f"{where}: the name of class {number} is blank; give it one, or take the line out")
        twin = spelled.setdefault(comparable(name), number)
        if kept[twin] != name:
            raise CacheInvalid(
                f"{where}: the names of classes {twin} and {number}, {shown(kept[twin])} and {shown(name)}, look alike: they "
                "differ only in spaces or in how an accent is written; give them names that differ"
            )
    return Named(where, kept)


def in_order(labels: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """The class names of text labels, and how many spellings were unified.

    Labels that are all digits are ordered as numbers, so that 2 comes before 10; others as text. Spellings that differ
    only in spaces or in how an accent is written are one class, whose name is the form that is compared.
    """
    forms: dict[str, set[str]] = {}
    for label in labels:
        forms.setdefault(comparable(label), set()).add(label)
    names = [next(iter(spellings)) if len(spellings) == 1 else form for form, spellings in forms.items()]
    if all(name.isascii() and name.isdecimal() and len(name) <= DIGITS for name in names):
        names.sort(key=lambda name: (int(name), name))
    else:
        names.sort()
    return tuple(names), sum(len(spellings) - 1 for spellings in forms.values())


def translation(own: Named, wanted: Named) -> np.ndarray:
    """For each number of `own`, the number in `wanted` of the class of the same name, -1 where there is none; (C,) int64."""
    if [*map(comparable, own.names)] == [*map(comparable, wanted.names)]:
        return np.arange(len(own.names))
    own.positions()
    positions = wanted.positions()
    return np.array([positions.get(comparable(name), -1) for name in own.names], dtype=np.int64)


def _json(file: Path) -> list[str]:
    check_regular(file)
    if file.stat().st_size > JSON_BYTES:
        raise CacheInvalid(f"{file}: {file.stat().st_size} bytes of class names, at most {JSON_BYTES} wanted")
    try:
        return listed(str(file), file.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise CacheInvalid(f"{file}: wanted UTF-8 text") from None
