"""Progress of long work on stderr (done, total, rate, time to go), and the message of an interrupted command.

A terminal shows a bar. A pipe or a batch system's log gets a line every `EVERY` seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.report.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_verbosity = 1
_kept: list[str] | None = None
EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
INTERRUPTED = "interrupted; what was finished is kept, the same command goes on from there"
_interrupted = INTERRUPTED


def interrupted_text() -> str:
    """The message of an interrupted command: what its next start does. It is set by the innermost `on_interrupt`."""
    return _interrupted


@contextmanager
def on_interrupt(text: str) -> Iterator[Callable[[str], None]]:
    """Within, an interrupted command says "interrupted; " and `text`; what is yielded sets another text.

    After a KeyboardInterrupt the text stays, because `interrupted_text` is called further out. After an Exception, or without
    one, the text from before is put back.
    """
    global _interrupted
    before = _interrupted
    _set_interrupted(text)
    try:
        yield _set_interrupted
    except Exception:
        _interrupted = before
        raise
    _interrupted = before


def _set_interrupted(text: str) -> None:
    global _interrupted
    _interrupted = f"interrupted; {text}"


def set_verbosity(level: int) -> None:
    """0 silences notes and bars, 1 shows them, 2 adds detail."""
    global _verbosity
    _verbosity = level


@contextmanager
def silently(silent: bool = True) -> Iterator[None]:
    """Within, no notes and no bars, if `silent`: for work that is a step of something whose own progress is shown."""
    before = _verbosity
    set_verbosity(0 if silent else before)
    try:
        yield
    finally:
        set_verbosity(before)


@contextmanager
def collected() -> Iterator[list[str]]:
    """Within, notes are kept in the list that is yielded, in place of being printed."""
    global _kept
    before, _kept = _kept, []
    try:
        yield _kept
    finally:
        _kept = before


def note(text: str, level: int = 1) -> None:
    """One line on stderr, if the verbosity reaches `level`."""
    if _kept is not None:
        _kept.append(text)
    elif _verbosity >= level:
        print(printable(text), file=sys.stderr, flush=True)


@dataclass
class Track:
    """Handle on running work; `advance` counts, `note` prints a line, on a terminal above the bar.

    `total` is 0 where nobody knows how much there is. `in_lines`: a line every `EVERY` seconds in place of a bar.
    """

    total: int
    unit: str
    description: str = ""
    in_lines: bool = False
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)
    _detail: str = ""
    _bar: "Progress | None" = None
    _task: "TaskID | None" = None

    @property
    def rate(self) -> float:
        """Units a second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def advance(self, n: int = 1) -> None:
        self.done += n
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, completed=self.done, total=self.total, rate=self._rate(), left=" ".join(self._left())
            )
        elif self.in_lines and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            note(self.line())

    def line(self) -> str:
        """What is done, of how much, how fast, and the time to go where it can be told."""
        known = self.total > 0
        parts = [f"{self.done:,}/{self.total:,} {self.unit}" if known else f"{self.done:,} {self.unit}", self._rate()]
        parts += [self._detail] if self._detail else []
        return f"{self.description}: {', '.join([*parts, *self._left()])}"

    def _left(self) -> list[str]:
        """The time to go at the mean rate so far, where it can be told. rich's own begins anew whenever `total` changes."""
        return [to_go((self.total - self.done) / self.rate)] if 0 < self.done < self.total else []

    def _rate(self) -> str:
        return f"{self.rate:,.0f} {self.unit}/s" if self.rate >= 10 else f"{self.rate:.2g} {self.unit}/s"

    def detail(self, text: str) -> None:
        """Show a figure beside the rate."""
        self._detail = text
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, detail=text)

    def note(self, text: str, always: bool = False) -> None:
        """A line. Without a terminal it is left out where less than `EVERY` seconds have passed since one, unless `always`."""
        if _verbosity == 0:
            return
        if self._bar is not None:
            self._bar.console.print(printable(text), highlight=False, markup=False)
        elif always or _verbosity > 1 or time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            note(text)


def to_go(seconds: float) -> str:
    """A time to go in the unit that suits it: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s to go"
    return f"{seconds / 60:.0f} min to go" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h to go"


@contextmanager
def track(total: int, description: str, unit: str = "rows", shown: bool = True) -> Iterator[Track]:
    """A bar on a terminal, a line every `EVERY` seconds elsewhere, nothing under `-q`.

    `shown` is false in all but the first of several processes that do the same work together.
    """
    if _verbosity == 0 or not shown:
        yield Track(total, unit, description)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Track(total, unit, description, in_lines=True)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[detail]}"),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield Track(
            total,
            unit,
            description,
            _bar=bar,
            _task=bar.add_task(printable(description), total=total, rate="", detail="", left=""),
        )
