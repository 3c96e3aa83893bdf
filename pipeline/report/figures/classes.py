"""Figures of classes: how many rows each has, and what the method gains."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.report.evidence import Evidence
from pipeline.report.figures.panel import (
    BASELINE,
    INK,
    MANY_POINTS,
    METHOD,
    PAPER,
    Panel,
    Picture,
    new_axes,
    plain_number,
)
from pipeline.stage3_record import RetrainResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAMED = 4
"""Classes of the greatest gain and of the greatest loss that are named."""


def rows_by_class(evidence: Evidence) -> Picture:
    """Training rows of each class, largest first, on a logarithmic axis."""
    drawing, axes = new_axes()
    order = sorted(range(len(evidence.counts)), key=lambda c: -evidence.counts[c])
    heads = set(evidence.heads)
    for name, colour, hatch, wanted in (("head", BASELINE, "", True), ("tail", METHOD, "///", False)):
        places = [place for place, c in enumerate(order) if (c in heads) == wanted]
        sizes = [evidence.counts[order[place]] for place in places]
        text = f"{name}: {len(places)} classes"
        bars = axes.bar(places, sizes, width=1.0, color=colour, hatch=hatch, edgecolor="none", label=text)
        for bar in bars:
            bar.set_rasterized(len(order) > MANY_POINTS)
    axes.set_yscale("log")
    many_above, few_below = evidence.limits
    for rows, text in ((many_above, f"many: more than {many_above}"), (few_below, f"few: fewer than {few_below}")):
        axes.axhline(rows, color=INK, linewidth=1, linestyle="--")
        axes.annotate(
            text,
            (1, rows),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8.5,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.85},
        )
    axes.yaxis.set_major_formatter(plain_number())
    axes.grid(axis="x", visible=False)
    axes.set(xlabel="classes, largest first", ylabel="training rows")
    axes.set_ylim(bottom=max(0.7, 0.7 * min(n for n in evidence.counts if n)), top=2.2 * max(evidence.counts))
    axes.legend(loc="upper right", ncols=2)
    groups = ", ".join(f"{len(members)} {name}" for name, members in evidence.groups.items())
    caption = (
        f"{len(evidence.counts)} classes have {max(evidence.counts):,} to {min(evidence.counts):,} training rows. "
        f"Head classes lend their variation, tail classes are augmented. By the limits drawn, {groups}."
    )
    return Picture(
        "How many training rows each class has", caption, (Panel("", drawing, "Bars of training rows a class"),)
    )


def accuracy_by_class(evidence: Evidence) -> Picture:
    """Accuracy against training rows, baseline beside method, and the gain."""
    method, baseline = evidence.method, evidence.baseline
    panels = [Panel("Accuracy", _accuracies(evidence), "Accuracy of each class against its training rows")]
    caption = (
        "Each point is a class: its training rows on a logarithmic axis, and the share of its test rows that are right."
    )
    if baseline is not None:
        panels.append(Panel(f"Gain over {baseline.name}", _gains(evidence), "Gain of each class against its rows"))
        tested = sorted(n for n in evidence.tested if n)
        step = 100 / tested[len(tested) // 2] if tested else 0
        caption += (
            f" A line joins what {baseline.name} and {method.name} give the same class; horizontal lines are the means of "
            f"many-, medium- and few-shot classes. In a class of middling size one test row is {step:.1f} points, so small "
            "differences of one class mean little."
        )
    return Picture("What the method did to which classes", caption, tuple(panels))


def _accuracies(evidence: Evidence) -> "Figure":
    drawing, axes = new_axes(3.6)
    shown = [(evidence.baseline, BASELINE, "o", "none"), (evidence.method, METHOD, "^", METHOD)]
    if evidence.baseline is not None:
        pairs = zip(evidence.baseline.result.per_class, evidence.method.result.per_class, strict=True)
        joined = [(n, a, b) for n, (a, b) in zip(evidence.counts, pairs, strict=True) if None not in (a, b) and n]
        rows, low, high = zip(*joined, strict=True)
        axes.vlines(rows, low, high, color=INK, linewidth=0.7, alpha=0.35, rasterized=len(rows) > MANY_POINTS)
    for arm, colour, marker, face in shown:
        if arm is None:
            continue
        points = [
            (n, value)
            for n, value in zip(evidence.counts, arm.result.per_class, strict=True)
            if n and value is not None
        ]
        rows, values = zip(*points, strict=True)
        axes.scatter(
            rows,
            values,
            s=20,
            marker=marker,
            facecolors=face,
            edgecolors=colour,
            linewidths=1.1,
            rasterized=len(rows) > MANY_POINTS,
            label=arm.name,
            zorder=3,
        )
        _group_means(axes, evidence, arm.result, colour)
    axes.set_xscale("log")
    _plain_numbers(axes, evidence.counts)
    axes.set(xlabel="training rows of the class", ylabel="accuracy of the class, % of test rows", ylim=(-4, 104))
    drawing.legend(loc="outside upper center", ncols=2)
    return drawing


def _group_means(axes: "Axes", evidence: Evidence, result: RetrainResult, colour: str) -> None:
    for name, members in evidence.groups.items():
        value = getattr(result, name)
        rows = [evidence.counts[c] for c in members if evidence.counts[c]]
        if value is not None and rows:
            axes.hlines(value, 0.93 * min(rows), 1.07 * max(rows), color=colour, linewidth=2, alpha=0.6, zorder=2)


def _gains(evidence: Evidence) -> "Figure":
    assert evidence.baseline is not None
    drawing, axes = new_axes(3.6)
    pairs = zip(evidence.baseline.result.per_class, evidence.method.result.per_class, strict=True)
    gains = [
        (c, n, b - a)
        for c, (n, (a, b)) in enumerate(zip(evidence.counts, pairs, strict=True))
        if n and a is not None and b is not None
    ]
    for sign, colour, marker in ((1, METHOD, "^"), (-1, BASELINE, "v")):
        chosen = [(n, gain) for _, n, gain in gains if (gain >= 0) == (sign > 0)]
        if chosen:
            rows, values = zip(*chosen, strict=True)
            axes.vlines(rows, 0, values, color=colour, linewidth=0.9, alpha=0.55, rasterized=len(rows) > MANY_POINTS)
            axes.scatter(rows, values, s=20, marker=marker, color=colour, zorder=3, rasterized=len(rows) > MANY_POINTS)
    axes.axhline(0, color=INK, linewidth=1)
    by_gain = sorted(gains, key=lambda item: item[2])
    height = 1.25 * max(by_gain[-1][2], 1)
    lowest = min(by_gain[0][2], 0)
    axes.set_ylim(1.3 * lowest - 0.12 * height, height)
    axes.set_xscale("log")
    _plain_numbers(axes, evidence.counts)
    named = dict.fromkeys([*by_gain[::-1][:NAMED], *by_gain[:NAMED]])
    _name(axes, evidence, [item for item in named if item[2]])
    axes.set(xlabel="training rows of the class", ylabel="gain, percentage points")
    return drawing


def _name(axes: "Axes", evidence: Evidence, gains: Sequence[tuple[int, int, float]]) -> None:
    """The class's name beside its point, on the side with room; one that would lie on another is left out."""
    from math import log

    low, high = log(min(n for n in evidence.counts if n)), log(max(evidence.counts))
    bottom, top = axes.get_ylim()
    taken: list[tuple[float, float, float, float]] = []
    for c, n, gain in gains:
        across = (log(n) - low) / max(high - low, 1e-9)
        up = (gain - bottom) / (top - bottom)
        text = evidence.classes[c][:18]
        to_the_left = across > 0.55
        width = 0.024 * len(text)
        left = across - width if to_the_left else across
        box = (left, left + width, up - 0.03, up + 0.03)
        if any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in taken):
            continue
        taken.append(box)
        axes.annotate(
            text,
            (n, gain),
            xytext=(-6 if to_the_left else 6, 0),
            textcoords="offset points",
            ha="right" if to_the_left else "left",
            va="center",
            fontsize=8,
        )


def _plain_numbers(axes: "Axes", counts: Sequence[int]) -> None:
    """Ticks of a logarithmic axis as 5, 10, 50 …, no powers of ten."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = min(n for n in counts if n), max(counts)
    few = high / low > 1000
    ticks = [m * 10**p for p in range(8) for m in ((1,) if few else (1, 2, 5)) if low <= m * 10**p <= high]
    ticks = ticks if len(ticks) > 1 else sorted({low, high})
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(plain_number())
