"""Class names as users keep them, and the number of each class.

A list of class names says what the class numbers in the same file mean. Two files may number the same classes differently.
Then the numbers of one are translated to those of the other by the names.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.formats import check_regular
from cache.exchange.gather import only
from cache.exchange.source import SourceArray
from cache.exchange.texts import comparable, listed, shown, sound, texts

CLASS_LIMIT = 1 << 20
"""The most classes. A larger label is taken for a mistake."""
JSON_BYTES = 64 << 20
"""The most bytes of a file of class names."""
DIGITS = 18
"""The most digits of a text that is ordered as a number."""


@dataclass(frozen=True)
class Named:
    """Class names in the order of their numbers; `where` says in which file they stand."""

    where: str
    names: tuple[str, ...]

    def positions(self) -> dict[str, int]:
        """The number of each name, the name as `comparable` writes it. Raises CacheInvalid where two classes have one name."""
        numbers: dict[str, int] = {}
        for number, name in enumerate(self.names):
            if (other := numbers.setdefault(comparable(name), number)) != number:
                raise CacheInvalid(
                    f"{self.where}: classes {other} and {number} are both called {shown(name)}, so that names cannot say "
                    "which is meant; give each a name of its own"
                )
        return numbers


def names_in_file(file: Path, columns: Mapping[str, str]) -> Named:
    """The names in the file of `--classes`: JSON, text with a name a line, or an array."""
    if file.suffix == ".json":
        return named(str(file), _json(file))
    return named_array(only(file, "classes", columns))


def named_array(array: SourceArray) -> Named:
    """The names in an array of text."""
    return named(array.where, texts(array))


def named(where: str, names: list[str]) -> Named:
    """The names of a list, checked.

    Raises CacheInvalid unless there are 1 to CLASS_LIMIT names, none of them blank, and no two that differ only in spaces or
    in how an accent is written.
    """
    if not 0 < len(names) <= CLASS_LIMIT:
        raise CacheInvalid(f"{where}: wanted 1 to {CLASS_LIMIT} class names, found {len(names)}")
    kept = tuple(sound(where, name) for name in names)
    numbers: dict[str, int] = {}
    for number, name in enumerate(kept):
        if not comparable(name):
            raise CacheInvalid(f"{where}: the name of class {number} is blank; give it one, or take the line out")
        twin = numbers.setdefault(comparable(name), number)
        if kept[twin] != name:
            raise CacheInvalid(
                f"{where}: the names of classes {twin} and {number}, {shown(kept[twin])} and {shown(name)}, look alike: they "
                "differ only in spaces or in how an accent is written; give them names that differ"
            )
    return Named(where, kept)


def in_order(labels: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """The class names that text labels use, in order, and how many spellings were taken as another's class.

    Labels that are all digits are ordered as numbers, so that 2 comes before 10. Others are ordered as text. Spellings that
    differ only in spaces or in how an accent is written are one class, called as `comparable` writes it.
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


def translation(own: Named, wanted: Named) -> NDArray[np.int64]:
    """The number in `wanted` of each class of `own`, found by its name, (C,); -1 for a class that `wanted` does not have."""
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
