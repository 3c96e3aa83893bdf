"""The line that a command prints where all its work was done before it started."""

import time
from collections.abc import Iterable
from pathlib import Path


def say_if_done(proofs: Iterable[Path], started: float) -> None:
    """Print "done already" where every file of `proofs`, each written last in its run, is older than the command's start.

    `started` is in seconds since 1970, as `time.time()` gives it.
    """
    from pipeline.progress import note

    times = {path: path.stat().st_mtime for path in proofs}
    if not times or max(times.values()) >= started:
        return
    newest = max(times, key=lambda path: times[path])
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(times[newest]))
    note(f"coattail: done already: {newest.parent}, from {when}")
