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
    """The error of the first read that fails; `read` if all succeed."""
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
    """The findings of `cache verify` as text. An error that it raises counts as a finding."""
    try:
        return [str(finding) for finding in verify(path, workers=2).findings]
    except CacheError as error:
        return [str(error)]


def limited(room: int) -> None:
    """Limit the address space to what the process takes now and `room` bytes more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    whole, folder = map(Path, sys.argv[1:])
    assert outcome(whole) == "read"
    assert findings(whole) == []
    limited(ROOM)
    print(json.dumps({path.name: [outcome(path), findings(path)] for path in sorted(folder.iterdir())}))
