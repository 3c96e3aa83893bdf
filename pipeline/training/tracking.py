"""TensorBoard beside a training's own log, switched on by COATTAIL_TENSORBOARD=1. Its failures never stop a training."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pipeline.progress import note

TENSORBOARD = "COATTAIL_TENSORBOARD"
"""The environment variable; 0 or empty is off. It is no setting, because a setting would change the key of a run."""
EVENTS = "tensorboard"
"""The folder of events, in the run folder: `tensorboard --logdir runs` finds it."""


class Writer(Protocol):
    """What a tracker writes through, as torch.utils.tensorboard.SummaryWriter does."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any: ...

    def flush(self) -> Any: ...


class Tracker:
    """Numbers of each epoch for a writer. After the writer's first failure, which is said, nothing more is written."""

    def __init__(self, writer: Writer | None) -> None:
        self._writer = writer

    def epoch(self, line: Mapping[str, float]) -> None:
        """The numbers of an epoch by name; `epoch` is the step."""
        if self._writer is None:
            return
        try:
            for name, value in line.items():
                if name != "epoch":
                    self._writer.add_scalar(f"stage1/{name}", value, int(line["epoch"]))
            self._writer.flush()
        except Exception as error:  # a full disk, say: a training of hours goes on without its pictures
            note(f"TensorBoard: {type(error).__name__}: {str(error)[:200]}; training goes on without it")
            self._writer = None


def tracker(folder: Path) -> Tracker:
    """The tracker of a run folder; one that writes nothing where TensorBoard is not asked for, or cannot be had."""
    if os.environ.get(TENSORBOARD, "0") in ("", "0"):
        return Tracker(None)
    try:
        from torch.utils.tensorboard import SummaryWriter

        return Tracker(SummaryWriter(str(folder / EVENTS)))
    except ImportError:
        note(f"{TENSORBOARD}: wants tensorboard, the extra coattail[tensorboard]; training goes on without it")
    except Exception as error:
        note(f"{TENSORBOARD}: {type(error).__name__}: {str(error)[:200]}; training goes on without it")
    return Tracker(None)
