"""What killed processes left among run folders, which nobody reads: found and, where it is wanted, deleted."""

import time
from collections.abc import Iterator
from pathlib import Path

from cache.disk.locks import all_free
from cache.ownership import RECENT
from cache.prune import Candidate
from pipeline.artefacts import folders


def prune_runs(runs: Path, yes: bool, now: float | None = None) -> list[Candidate]:
    """List half-written files and the checkpoints of finished runs and, with `yes`, delete them.

    What was touched within the hour, or lies in the folder of a run that a process works on, is left out. `now` is a time in
    seconds since 1970.
    """
    now = time.time() if now is None else now
    candidates = []
    for folder in sorted(path for pattern in ("*", "*/*") for path in runs.glob(pattern) if path.is_dir()):
        # Beside run folders lie reports, and folders of their figures, which have no lock.
        with all_free([path for path in (folder / ".lock",) if path.exists()]) as free:
            if free:
                candidates += list(_candidates(folder, yes, now))
    return candidates


def _candidates(folder: Path, yes: bool, now: float) -> Iterator[Candidate]:
    for path in folders.leftovers(folder):
        kept = ""
        try:
            about = path.lstat()
            if now - about.st_mtime <= RECENT:
                continue
            if yes:
                path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            kept = f"cannot be deleted ({error.strerror})"
        is_checkpoint = path.name == folders.CHECKPOINT
        reason = "checkpoint of a finished run" if is_checkpoint else "half-written file of a run"
        untouched = f"{reason}, untouched for {(now - about.st_mtime) / 3600:.0f} h"
        yield Candidate(str(path), folder.name, about.st_size, untouched, kept)
