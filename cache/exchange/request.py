"""What a user names for an import: files by split, labels and ids beside them, class names, a classifier, names of arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cache.errors import CacheInvalid
from cache.exchange.names import SPLITS
from cache.exchange.texts import shown


@dataclass(frozen=True)
class Request:
    """What a user named. A path stands beside its split, "" where the file itself says which rows are whose."""

    sources: tuple[tuple[str, Path], ...]
    labels: tuple[tuple[str, Path], ...] = ()
    ids: tuple[tuple[str, Path], ...] = ()
    classes: Path | None = None
    classifier: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """Role, or SPLIT/ROLE -> the name that the user's arrays or columns of that role have."""


def named_path(text: str) -> tuple[str, Path]:
    """`train=features.npy` as split and path; the split is "" where the text is a path alone."""
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
        raise CacheInvalid(f"{path}: no user of that name, so no home folder; write the whole path") from None
