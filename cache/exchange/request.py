"""What a user names for an import: the files of each split, of labels, ids, class names and a classifier; names of arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cache.errors import CacheInvalid
from cache.exchange.names import SPLITS
from cache.exchange.texts import shown


@dataclass(frozen=True)
class Request:
    """What a user named. With each path stands its split, or "" for a file that says itself which rows belong to which."""

    sources: tuple[tuple[str, Path], ...]
    labels: tuple[tuple[str, Path], ...] = ()
    ids: tuple[tuple[str, Path], ...] = ()
    classes: Path | None = None
    classifier: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """By role, or SPLIT/ROLE: the name of the user's array or column of that role."""


def named_path(text: str) -> tuple[str, Path]:
    """The split and the path in a text such as `train=features.npy`; the split is "" where the text is a path alone."""
    if "\0" in text:
        raise CacheInvalid(f"{shown(text)}: a path cannot hold NUL")
    split, equals, path = text.partition("=")
    if not text or (equals and not path):
        raise CacheInvalid(f"{text or 'an empty path'}: wanted SPLIT=PATH, or a path")
    if not equals or "/" in split or Path(text).exists():
        return "", _home(Path(text))
    return SPLITS.get(split, split), _home(Path(path))


def _home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise CacheInvalid(
            f"{path}: nobody has that name here, so there is no home folder; give the whole path"
        ) from None
