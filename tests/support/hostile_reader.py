"""Reads every cache in a folder under a limit of address space: `hostile_reader.py WHOLE FOLDER`; a JSON line of outcomes."""

import json
import resource
import sys
from pathlib import Path

from cache import CacheError, FeatureCache
from cache.verify import verify

ROOM = 192 << 20
"""Bytes beside what reading a whole cache has taken."""


def outcome(path: Path) -> str:
    """The refusal of the first read that refuses; `read` if none does."""
    try:
        cache = FeatureCache.open(path)
        for split in cache.splits:
            cache.rows(split)
            cache.labels(split)
            for view in cache.views(split):
                cache.features(split, view)
        cache.classifier()
    except CacheError as error:
        return str(error)
    return "read"


def findings(path: Path) -> list[str]:
    """What `cache verify` says; a refusal is one too."""
    try:
        return [str(found) for found in verify(path, workers=2).findings]
    except CacheError as error:
        return [str(error)]


def limited(room: int) -> None:
    """No more than `room` bytes beside those of now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    whole, folder = map(Path, sys.argv[1:])
    assert outcome(whole) == "read"
    assert findings(whole) == []
    limited(ROOM)
    print(json.dumps({path.name: [outcome(path), findings(path)] for path in sorted(folder.iterdir())}))
