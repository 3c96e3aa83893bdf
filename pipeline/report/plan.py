"""A plan as text."""

from typing import TYPE_CHECKING

from pipeline.report.layout import Part, Table, figures, names

if TYPE_CHECKING:
    from pipeline.plan import Plan

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def plan_text(plan: "Plan") -> list[Part]:
    """The plan as lines: a row for each step with its reason, then the sums."""
    columns = (*names("step", "does"), *figures("images", "writes", "about"))
    rows = [
        (
            step.name,
            step.does,
            f"{step.images:,}" if step.images else "-",
            size_text(step.bytes_written),
            about(step.seconds),
        )
        for step in plan.steps
    ]
    seconds = [step.seconds for step in plan.steps if step.seconds is not None]
    written = sum(step.bytes_written for step in plan.steps)
    parts: list[Part] = [
        Table(f"dry run of {plan.name}: nothing is done, no file is written", columns, tuple(rows)),
        "",
    ]
    parts += [f"- {step.name}: {step.does}, for {step.why}" for step in plan.steps]
    parts.append(f"{size_text(plan.free_bytes)} are free at {plan.stores}, {size_text(written)} would be written")
    if seconds:
        parts.append(
            f"about {about(sum(seconds))} in all for what could be timed, by a probe on this machine as it is now"
        )
    return parts


def size_text(count: int) -> str:
    """Bytes as people read them."""
    for unit, name in UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} B" if count else "-"


def about(seconds: float | None) -> str:
    """A time to the digit that a probe can tell."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
