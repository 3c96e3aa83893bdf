"""An inspection as text: three lines, a histogram of class sizes, the alarms."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.report.layout import Part, Table, figures, names

if TYPE_CHECKING:
    from pipeline.inspect import Inspection

BAR = 30
"""Characters of the longest bar."""
EXAMPLES_SHOWN = 3
"""Examples of an alarm that the text shows; --json has up to 20."""
ALL_SHOWN = ("unreadable",)
"""Kinds of alarms whose examples are all shown, a line each."""


def inspection_text(inspection: "Inspection") -> list[Part]:
    """The inspection as lines and tables for a terminal."""
    parts: list[Part] = [*inspection.head, "", _histogram(inspection.counts), ""]
    number = len(inspection.alarms)
    parts.append(f"{number} alarm{'s' if number > 1 else ''}" if number else "no alarms")
    for alarm in inspection.alarms:
        kind = f"{alarm.kind} ({alarm.count:,})" if alarm.examples or alarm.count > 1 else alarm.kind
        shown = alarm.examples if alarm.kind in ALL_SHOWN else alarm.examples[:EXAMPLES_SHOWN]
        more = f" and {alarm.count - len(shown):,} more" if shown and alarm.count > len(shown) else ""
        if alarm.kind in ALL_SHOWN:
            parts.append(f"- {kind}: {alarm.text}")
            parts += [f"    {example}" for example in shown]
            parts += [f"   {more}"] if more else []
        else:
            parts.append(f"- {kind}: {alarm.text}{': ' if shown else ''}{', '.join(shown)}{more}")
    return parts


def _histogram(counts_C: Sequence[int]) -> Table:
    """Numbers of classes by their training images, in bins from 1, 2, 5, 10, 20, 50, … on; those of none first."""
    edges = [0, *(digit * 10**power for power in range(13) for digit in (1, 2, 5))]
    largest = max(counts_C, default=0)
    bins = [
        (low, high - 1, sum(low <= count < high for count in counts_C))
        for low, high in itertools.pairwise(edges)
        if low <= largest
    ]
    occupied = [number for number, (_, _, count) in enumerate(bins) if count]
    bins = bins[occupied[0] : occupied[-1] + 1] if occupied else []
    most = max((count for *_, count in bins), default=1)
    rows = [
        (f"{low:,}" if low == high else f"{low:,}-{high:,}", f"{count:,}", "#" * -(-count * BAR // most))
        for low, high, count in bins
    ]
    return Table("how large the classes are", (*names("training images"), *figures("classes"), *names("")), tuple(rows))
