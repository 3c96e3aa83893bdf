"""The figure of pairs of classes: which take the images of which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.report.evidence import Evidence
from pipeline.report.figures.panel import BASELINE, METHOD, RULE, Panel, Picture, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def mistaken_pairs(evidence: Evidence) -> Picture:
    """The pairs of classes that are mistaken most: which larger class takes a smaller one's images, and what remains."""
    title = "Which class swallows which"
    if not evidence.swallowed and not evidence.remaining:
        missing = "No pair of classes is mistaken, or both classifiers are of an earlier version and cannot be looked at anew."
        return Picture(title, "", missing=missing)
    panels = []
    if evidence.swallowed:
        heading = f"Smaller class → larger class, worst of {_first_name(evidence)}"
        panels.append(Panel(heading, _swallowed(evidence), "Bars of the worst pairs, baseline and method"))
    if evidence.remaining:
        heading = f"What {evidence.method.name} still mistakes"
        panels.append(Panel(heading, _remaining(evidence), "Bars of the worst pairs that remain"))
    caption = (
        "A bar is the share of a class's test rows that are taken for the other class. Training rows stand in brackets. "
        "Of classifiers with several seeds, the first is shown."
    )
    return Picture(title, caption, tuple(panels))


def _first_name(evidence: Evidence) -> str:
    return (evidence.baseline or evidence.method).name


def _pair_name(evidence: Evidence, true: int, taken: int) -> str:
    sizes = evidence.counts
    return f"{evidence.classes[true][:16]} ({sizes[true]}) → {evidence.classes[taken][:16]} ({sizes[taken]})"


def _swallowed(evidence: Evidence) -> "Figure":
    pairs_shown = evidence.swallowed
    drawing, axes = new_axes(1.2 + 0.34 * len(pairs_shown))
    places = range(len(pairs_shown))
    for shift, arm, shares, colour, hatch in (
        (-0.19, evidence.baseline, [item.baseline for item in pairs_shown], BASELINE, ""),
        (0.19, evidence.method, [item.method for item in pairs_shown], METHOD, "///"),
    ):
        known = [(place + shift, share) for place, share in zip(places, shares, strict=True) if share is not None]
        if arm is not None and known:
            where, widths = zip(*known, strict=True)
            axes.barh(
                where, widths, height=0.36, color=colour, hatch=hatch, edgecolor=RULE, linewidth=0, label=arm.name
            )
    _pair_axis(axes, [_pair_name(evidence, item.pair.true, item.pair.taken) for item in pairs_shown])
    drawing.legend(loc="outside upper right", ncols=2)
    return drawing


def _remaining(evidence: Evidence) -> "Figure":
    drawing, axes = new_axes(1.2 + 0.34 * len(evidence.remaining))
    shares = [pair.share for pair in evidence.remaining]
    axes.barh(range(len(shares)), shares, height=0.6, color=METHOD, hatch="///", edgecolor=RULE, linewidth=0)
    _pair_axis(axes, [_pair_name(evidence, pair.true, pair.taken) for pair in evidence.remaining])
    return drawing


def _pair_axis(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("% of the class's test rows")
