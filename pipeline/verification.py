"""`cache.verify` with a bar: hashing a large cache takes minutes."""

from pathlib import Path

from cache import catalog
from cache.errors import CacheError, CacheInvalid
from cache.verify import Verification, verify
from pipeline.progress import track


def verify_shown(path: Path, quick: bool, subset: str | None) -> Verification:
    """Verify the cache at `path`; `subset` is "I/N". Raises CacheInvalid for another form of it."""
    part = None if subset is None else _part(subset)
    with track(0 if quick else _size(path), f"verifying {path.name[:12]}", "bytes") as progress:
        return verify(path, "quick" if quick else "full", part, advance=progress.advance)


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise CacheInvalid(f"--subset {text}: wanted I/N, such as 1/5")
    return int(part), int(parts)


def _size(path: Path) -> int:
    try:
        return catalog.read_manifest(path).size
    except CacheError:
        return 0
