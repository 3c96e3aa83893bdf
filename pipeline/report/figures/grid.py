"""The figure of a sweep: the score of each place of the grid against each setting that was varied."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.report.evidence.grid import ScoresBySetting
from pipeline.report.figures.panel import (
    CLASS_COLOURS,
    INK,
    LOOK,
    MARKERS,
    Panel,
    Picture,
    new_axes,
    plain_number,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED_TICKS = 12
"""Values that are no numbers and have a name on the axis; of more, every second, third, … has one."""


def scores(drawings: Sequence[ScoresBySetting], score: str) -> Picture:
    """A panel for each setting; `score` says what is on the vertical axis."""
    import matplotlib

    title = "The score against what was varied"
    if not drawings:
        return Picture(title, "", missing="Nothing but the seed was varied.")
    caption = (
        f"Each point is one place of the grid, the mean over its seeds; on the vertical axis stands its {score}, in percent. "
        "A line joins the means at each value. A dashed line is a method that does not use the setting. The chosen place, "
        "if there is one, has a ring."
    )
    with matplotlib.rc_context(LOOK):
        panels = tuple(Panel(each.setting, _drawn(each, score), f"{score} against {each.setting}") for each in drawings)
    return Picture(title, caption, panels)


def _drawn(about: ScoresBySetting, score: str) -> "Figure":
    drawing, axes = new_axes(4.0)
    for number, series in enumerate(about.series):
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        points_x, points_y = [x for x, *_ in series.points], [y for _, y, _ in series.points]
        axes.scatter(points_x, points_y, s=24, color=colour, marker=MARKERS[number % len(MARKERS)], label=series.name)
        axes.plot([x for x, _ in series.line], [y for _, y in series.line], color=colour, linewidth=1.2)
        if series.level is not None:
            axes.axhline(series.level, color=colour, linewidth=1.2, linestyle="--")
        ringed = [(x, y) for x, y, chosen in series.points if chosen]
        axes.scatter([x for x, _ in ringed], [y for _, y in ringed], s=130, facecolors="none", edgecolors=INK, zorder=3)
    _name_axis(axes, about)
    axes.set(xlabel=about.setting, ylabel=f"{score}, %")
    if about.told_apart_by:
        drawing.legend(loc="outside lower center", ncols=2, title=about.told_apart_by, title_fontsize=8.5)
    return drawing


def _name_axis(axes: "Axes", about: ScoresBySetting) -> None:
    if about.ticks:
        step = -(-len(about.ticks) // NAMED_TICKS)
        turned = max(map(len, about.ticks)) * len(about.ticks) > 40
        axes.set_xticks(
            range(0, len(about.ticks), step),
            about.ticks[::step],
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
        )
        return
    if about.logarithmic:
        from matplotlib.ticker import NullFormatter

        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(plain_number())
