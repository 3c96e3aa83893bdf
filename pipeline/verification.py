"""`cache.verify` with a bar: hashing a large cache takes minutes."""

import re
from pathlib import Path

from cache import catalog
from cache.errors import CacheError
from cache.verify import Verification, verify
from pipeline.errors import ConfigError
from pipeline.progress import track


def verify_shown(path: Path, quick: bool, subset: str | None) -> Verification:
    """Verify the cache at `path`; `subset` is "I/N". Raises ConfigError for another form of it."""
    part = None if subset is None else _part(subset)
    with track(0 if quick else _size(path), f"verifying {path.name[:12]}", "bytes") as progress:
        return verify(path, "quick" if quick else "full", part, advance=progress.advance)


def _part(text: str) -> tuple[int, int]:
    found = re.fullmatch("([0-9]{1,9})/([0-9]{1,9})", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--subset {text}: wanted I/N with 1 <= I <= N, such as 1/5")
    return int(found[1]), int(found[2])


def _size(path: Path) -> int:
    try:
        return catalog.read_manifest(path).size
    except CacheError:
        return 0
