"""Progress of long work on stderr: done of total, rate, time to go. Quiet where nobody watches."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.report.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_verbosity = 1
_interrupted = "interrupted; what was finished is kept, the same command goes on from there"


def interrupted_text() -> str:
    """What an interrupted command says: what the next start does."""
    return _interrupted


def set_verbosity(level: int) -> None:
    """0 silences notes and bars, 1 shows them, 2 adds detail."""
    global _verbosity
    _verbosity = level


def note(text: str, level: int = 1) -> None:
    """One line on stderr, if the verbosity reaches `level`."""
    if _verbosity >= level:
        print(printable(text), file=sys.stderr, flush=True)


@dataclass
class Track:
    """Handle on a running bar; `advance` counts, `note` prints a line above it."""

    total: int
    unit: str
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    _bar: "Progress | None" = None
    _task: "TaskID | None" = None

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, rate=f"{self.rate:,.0f} {self.unit}/s")

    def detail(self, text: str) -> None:
        """Show a figure beside the rate."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, detail=text)

    def note(self, text: str) -> None:
        if _verbosity == 0:
            return
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        else:
            note(text)


@contextmanager
def track(total: int, description: str, unit: str = "rows") -> Iterator[Track]:
    """A bar on a terminal, nothing in a pipe or under `-q`; notes are printed in both."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if _verbosity == 0 or not console.is_terminal:
        yield Track(total, unit)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[detail]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Track(total, unit, _bar=bar, _task=bar.add_task(printable(description), total=total, rate="", detail=""))
