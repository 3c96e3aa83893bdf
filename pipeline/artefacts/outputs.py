"""Where a file goes that the user names: found to be possible before the work whose result it holds."""

import glob
import os
import time
from contextlib import suppress
from pathlib import Path

from cache.disk import durable
from cache.ownership import RECENT
from pipeline.errors import ConfigError
from pipeline.settings.paths import home_expanded


def output_path(option: str, text: str | Path) -> Path:
    """The path of a file that is to be written whole, and may replace one that is there; of a link, what it leads to.

    Files appear by a rename, which would put a plain file in the place of a device such as /dev/null. Raises ConfigError, naming
    the `option`, where a folder, a device or a pipe has the name, where there is no folder to write into, or no name.

    What a killed process left half-written under the same name, untouched for an hour, is taken away.
    """
    path = home_expanded(option, str(text))
    if not path.name:
        raise ConfigError(f"{option}: wanted the name of a file, found {str(text)!r}")
    try:
        path = Path(os.path.realpath(path)) if path.is_symlink() else path
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no plain file"
            raise ConfigError(f"{option} {path}: wanted a file, found {kind}; give another name")
        if not path.absolute().parent.is_dir():
            raise ConfigError(f"{option} {path}: the folder {path.absolute().parent} is not there; make it first")
    except OSError as error:
        raise ConfigError(
            f"{option} {str(path)[:80]}: cannot be written ({error.strerror}); give another name"
        ) from None
    _take_away_torn(path)
    return path


def _take_away_torn(path: Path) -> None:
    with suppress(OSError):
        for torn in path.parent.glob(f".{glob.escape(path.name)}.*{durable.TEMPORARY}"):
            if durable.is_temporary(torn) and time.time() - torn.stat().st_mtime > RECENT:
                torn.unlink()
