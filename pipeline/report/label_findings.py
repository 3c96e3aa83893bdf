"""Suspicious labels, rows in two splits and confused classes as tables."""

from pipeline.inspecting.label_errors import LabelFindings
from pipeline.report.layout import Part, Table, figures, names

SHOWN_FINDINGS = 10
"""Rows of each table in a terminal; --json and --html have up to 200."""


def findings_parts(findings: LabelFindings) -> list[Part]:
    """A table of each kind of finding that is not empty."""
    tables = (
        suspicious_table(findings, SHOWN_FINDINGS),
        shared_table(findings, SHOWN_FINDINGS),
        confused_table(findings, SHOWN_FINDINGS),
    )
    parts: list[Part] = [part for table in tables if table.rows for part in ("", table)]
    if findings.unranked:
        parts += ["", not_judged(findings)]
    return parts or ["", "no label looks wrong, and no row stands in two splits"]


def suspicious_table(findings: LabelFindings, limit: int) -> Table:
    """The training rows of the lowest margins, at most `limit`."""
    title = (
        f"{findings.negative:,} training rows look more like another class, by a classifier that did not see them; "
        "the most suspicious"
    )
    rows = [(row.sample_id, row.label, row.taken_for, f"{row.margin:+.2f}") for row in findings.suspicious[:limit]]
    return Table(title, (*names("row", "label", "looks like"), *figures("margin")), tuple(rows))


def shared_table(findings: LabelFindings, limit: int) -> Table:
    """The rows of other splits that are training rows, or nearly, at most `limit`."""
    title = f"{findings.in_two_splits:,} rows of other splits are all but equal to a training row"
    rows = [
        (f"{pair.split}: {pair.sample_id}", pair.train_sample_id, "yes" if pair.same_label else "NO")
        for pair in findings.shared[:limit]
    ]
    return Table(title, names("row", "training row", "same label"), tuple(rows))


def confused_table(findings: LabelFindings, limit: int) -> Table:
    """The pairs of classes of which most rows are taken for the other, at most `limit`."""
    title = "classes that are hard to tell apart, by the share of their rows taken for the other"
    rows = [(pair.first, pair.second, f"{pair.confused:.1f}", f"{pair.rows:,}") for pair in findings.confused[:limit]]
    return Table(title, (*names("class", "class"), *figures("%", "rows")), tuple(rows))


def not_judged(findings: LabelFindings) -> str:
    """How many rows nothing is said of, and why."""
    return f"not judged: {findings.unranked:,} rows that are the only one of their class"
