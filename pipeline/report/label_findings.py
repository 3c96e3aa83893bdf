"""Suspicious labels, rows in two splits and confused classes as tables."""

from collections.abc import Sequence

from pipeline.inspecting.label_errors import LabelFindings
from pipeline.report.layout import Part, Table, figures, names

SHOWN_FINDINGS = 10
"""Rows of each table; --json has up to 200."""


def findings_parts(findings: LabelFindings) -> list[Part]:
    """A table of each kind of finding that is not empty."""
    parts: list[Part] = []
    if findings.suspicious:
        title = (
            f"{findings.negative:,} training rows look more like another class, by a classifier that did not see them; "
            "the most suspicious"
        )
        rows = [(row.sample_id, row.label, row.taken_for, f"{row.margin:+.2f}") for row in findings.suspicious]
        parts += ["", Table(title, (*names("row", "label", "looks like"), *figures("margin")), _first(rows))]
    if findings.shared:
        shared = [
            (f"{pair.split}: {pair.sample_id}", pair.train_sample_id, "yes" if pair.same_label else "NO")
            for pair in findings.shared
        ]
        title = f"{len(findings.shared):,} rows of other splits are all but equal to a training row"
        parts += ["", Table(title, names("row", "training row", "same label"), _first(shared))]
    if findings.confused:
        pairs = [(pair.first, pair.second, f"{pair.confused:.1f}", f"{pair.rows:,}") for pair in findings.confused]
        title = "classes that are hard to tell apart, by the share of their rows taken for the other"
        parts += ["", Table(title, (*names("class", "class"), *figures("%", "rows")), _first(pairs))]
    if findings.unranked:
        parts += ["", f"not judged: {findings.unranked:,} rows that are the only one of their class"]
    return parts or ["", "no label looks wrong, and no row stands in two splits"]


def _first(rows: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(rows[:SHOWN_FINDINGS])
