"""Whether a folder is a cache of coattail's, or belongs to somebody else and must never be deleted."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cache.disk import durable
from cache.errors import CacheInvalid
from cache.format import layout

RECENT = 3600.0
"""Seconds. A folder that changed within them may still be being copied here, and is not deleted."""
_CACHE = (
    rf"({re.escape(layout.FEATURES)}/(.+/)?(zarr\.json|c/\d+/0(/0/0)?)|rows/[^/]+\.parquet"
    rf"|{re.escape(layout.CLASSIFIER)}|{re.escape(layout.MANIFEST)})"
)
_FILE = re.compile(_CACHE)
_UNIQUE = "[0-9a-f]{32}"
_TORN = rf"([^/]+/)*\..+\.{_UNIQUE}{re.escape(durable.TEMPORARY)}"
_UNFINISHED = re.compile(rf"plan\.json|journal-\d+\.jsonl|(data|sealed-{_UNIQUE})/{_CACHE}|{_TORN}", re.DOTALL)
TRASH = "trash-"
"""How the name of a folder begins that was renamed to be deleted."""
_OWN = re.compile(rf"({layout.KEY.pattern})(\.pull)?|{TRASH}{_UNIQUE}")


def names(path: Path) -> set[str]:
    """The names of a folder: its own and, where it is reached through a link, that of the link."""
    return {os.path.basename(os.path.abspath(path)), path.resolve().name}


def expanded(text: str) -> Path:
    """The path with `~` and `~somebody` replaced by the home folder. Raises CacheInvalid where nobody has that name."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise CacheInvalid(
            f"{text}: nobody is called {text.partition('/')[0]} on this machine; give the whole path"
        ) from None


def is_shaped(folder: Path) -> bool:
    """Whether a folder is called by a key, and holds files of a cache and no others. The files are not read."""
    if not any(layout.KEY.fullmatch(name) for name in names(folder)):
        return False
    return not foreign_files(folder) and any(path.parent != folder for path in _walk(folder))


def foreign_files(folder: Path) -> list[str]:
    """Files and links in a folder that no cache has, by their paths inside it and in order. Somebody put them there."""
    files = [os.path.relpath(path, folder).replace(os.sep, "/") for path in _walk(folder)]
    return sorted(file for file in files if not _FILE.fullmatch(file))


def foreign_to_staging(folder: Path) -> list[str]:
    """Files and links in a folder of `.staging` that neither a writer nor a pull leaves there, as `foreign_files` gives them.

    A folder that was moved there to be deleted was looked at before; of it the list is empty.
    """
    if folder.name.startswith(TRASH):
        return []
    files = [os.path.relpath(path, folder).replace(os.sep, "/") for path in _walk(folder)]
    return sorted(file for file in files if not _UNFINISHED.fullmatch(file))


def is_own_name(name: str) -> bool:
    """Whether coattail gives this name to folders in `.staging`, `.local` and `.decoded`."""
    return _OWN.fullmatch(name) is not None


def changed(path: Path) -> float:
    """When a file or folder, or anything in it, was last changed, in seconds since 1970.

    Copying may keep an old time of modification. It cannot keep the time of change, which the file system sets.
    """
    return max(map(_time, (path, *_walk(path, folders=True))))


def written(folder: Path) -> float:
    """When a file in the folder was last written, in seconds since 1970; 0 where it has none.

    Unlike `changed`, this leaves out the folders, whose times change where a file is taken away.
    """
    return max(map(_time, _walk(folder)), default=0.0)


def is_recent(path: Path, now: float | None = None) -> bool:
    """Whether anything in the folder changed within RECENT seconds."""
    return (time.time() if now is None else now) - changed(path) <= RECENT


def _time(path: Path) -> float:
    with suppress(OSError):  # it was taken away meanwhile
        status = os.lstat(path)
        return max(status.st_mtime, status.st_ctime)
    return 0.0


def _walk(root: Path, folders: bool = False) -> Iterator[Path]:
    """Every file and link below a folder; with `folders` the folders too."""
    for inside, below, files in os.walk(root):
        links = [name for name in below if os.path.islink(os.path.join(inside, name))]
        for name in (*files, *(below if folders else links)):
            yield Path(inside, name)
