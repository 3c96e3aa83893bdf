"""Training curves, from the log.jsonl of run folders."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

LOG_LIMIT = 1 << 24
"""Bytes of a log that are read at most."""
POINTS = 400
"""Epochs that a curve shows at most; of more, every second, third … one."""


@dataclass(frozen=True)
class Curve:
    """The mean training loss of each epoch of a stage."""

    stage: str
    epochs: tuple[int, ...]
    losses: tuple[float, ...]


def curve(stage: str, folder: Path) -> Curve | None:
    """The curve that the log of a run folder holds; None where there is no log, or it holds no epochs with a finite loss."""
    log = folder / "log.jsonl"
    if not log.is_file():
        return None
    try:
        with log.open("rb") as file:
            lines = file.read(LOG_LIMIT).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    points = [point for line in lines if (point := _point(line)) is not None]
    step = max(1, math.ceil(len(points) / POINTS))
    points = points[::step]
    if not points:
        return None
    epochs, losses = zip(*points, strict=True)
    return Curve(stage, epochs, losses)


def _point(line: str) -> tuple[int, float] | None:
    try:
        values = json.loads(line)
        epoch, loss = values["epoch"], values["loss"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_number = isinstance(epoch, int) and isinstance(loss, (int, float)) and not isinstance(loss, bool)
    return (epoch, float(loss)) if is_number and 0 < epoch < 1 << 31 and math.isfinite(loss) else None
