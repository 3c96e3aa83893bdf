"""The output of `sweep`: its points by score, the chosen one, and those that failed."""

from collections.abc import Sequence

from pipeline.report.layout import Part, Table, figures, names, tenths
from pipeline.report.tables import CHOSEN, SHOWN_OF_RUN, headings, over_views
from pipeline.sweeping.record import GridPlace, SweepResult


def sweep_table(result: SweepResult) -> Table:
    """A row a place of the grid, best first by what was chosen on; figures are of the test split."""
    varied = [key for key in result.varied if key not in ("seed", "method")]
    score = figures(f"{result.metric} on {result.selected_on}") if result.selected_on else ()
    columns = (*names("method", *varied), *score, *headings(SHOWN_OF_RUN), *figures("seeds", "s"))
    places = sorted(result.places, key=lambda place: -(place.score or 0.0))
    on = f"on the test split{over_views(result.test_views)}, last epoch"
    title = f"{result.file} on {result.dataset}, cache {result.cache[:12]}: percent {on}"
    return Table(title, columns, tuple(_row(place, varied, bool(score)) for place in places))


def _row(place: GridPlace, varied: Sequence[str], scored: bool) -> tuple[str, ...]:
    values = [str(place.values[key]) if key in place.values else "–" for key in varied]
    score = [tenths(place.score)] if scored else []
    shown = [tenths(place.mean[name]) for name in SHOWN_OF_RUN]
    name = (CHOSEN if place.chosen else "") + place.method
    return name, *values, *score, *shown, str(len(place.seeds)), f"{place.seconds:.1f}"


def sweep_lines(result: SweepResult, folder: str) -> list[Part]:
    """The table, how the choice was made, and every failure."""
    lines: list[Part] = [sweep_table(result), ""]
    if result.selected_on is None:
        lines.append(f"nothing is chosen: {result.why_not}")
    else:
        lines.append(f"{CHOSEN.strip()} chosen by {result.metric} accuracy on {result.selected_on}, mean over seeds")
    lines += [f"WARNING: {result.warning}"] if result.warning else []
    lines += [f"failed: {failure.point}: {failure.error}" for failure in result.failures]
    done = sum(len(place.runs) for place in result.places)
    return [*lines, f"{done} of {result.points} points done, {len(result.failures)} failed: {folder}"]
