"""Figures of training and of confidence: losses by epoch, reliability diagrams."""

from typing import TYPE_CHECKING

from pipeline.report.evidence import Evidence
from pipeline.report.evidence.calibration import Calibration
from pipeline.report.figures.panel import BASELINE, INK, METHOD, Panel, Picture, new_axes, plain_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_diagrams(evidence: Evidence) -> Picture:
    """Accuracy against confidence, before and after a temperature, for baseline and method."""
    title = "Whether its confidence can be believed"
    if not evidence.calibrations:
        missing = "Both classifiers are of an earlier version, so their confidences cannot be looked at anew."
        return Picture(title, "", missing=missing)
    panels = [
        Panel(calibration.name, _reliability(calibration), f"Accuracy against confidence of {calibration.name}")
        for calibration in evidence.calibrations
    ]
    caption = (
        "On the dashed line a confidence of 80 % is right 80 % of the time; below it the classifier is too sure. The expected "
        "calibration error (ECE) is the mean distance from the line, by rows. A temperature divides the logits: above 1 it "
        f"makes the classifier less sure, and no prediction changes. It was fitted on {evidence.calibrations[0].how}."
    )
    return Picture(title, caption, tuple(panels))


def _reliability(calibration: Calibration) -> "Figure":
    drawing, axes = new_axes(3.6)
    temperature = " and ".join(f"{value:.2f}" for value in calibration.temperatures)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle="--")
    for points, colour, marker, style, text in (
        (calibration.before, BASELINE, "o", "-", "as it is"),
        (calibration.after, METHOD, "^", ":", f"temperature {temperature}"),
    ):
        most = max(interval.rows for interval in points.bins)
        confidences = [interval.confidence for interval in points.bins]
        correct = [interval.accuracy for interval in points.bins]
        sizes = [12 + 50 * interval.rows / most for interval in points.bins]
        axes.plot(confidences, correct, color=colour, linestyle=style, linewidth=1.3)
        axes.scatter(
            confidences,
            correct,
            s=sizes,
            color=colour,
            marker=marker,
            zorder=3,
            label=f"{text}: ECE {points.ece:.1f} %",
        )
    axes.set(xlabel="confidence, %", ylabel="accuracy, %", xlim=(0, 102), ylim=(0, 102))
    heading = f"{calibration.rows:,} test rows; size: rows in the bin"
    axes.legend(loc="upper left", title=heading, title_fontsize=8, alignment="left")
    return drawing


def training_curves(evidence: Evidence) -> Picture:
    """The training loss of each stage that keeps a log."""
    title = "How the stages trained"
    if not evidence.curves:
        missing = (
            "No log of a training is at hand: the cache's backbone was trained elsewhere, and no generator was used."
        )
        return Picture(title, "", missing=missing)
    from matplotlib.ticker import LogLocator, NullFormatter

    panels = []
    for curve in evidence.curves:
        drawing, axes = new_axes(2.8)
        axes.plot(
            curve.epochs, curve.losses, color=BASELINE, linewidth=1.4, marker="o" if len(curve.epochs) < 12 else ""
        )
        if min(curve.losses) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(plain_number())
            axes.yaxis.set_minor_formatter(NullFormatter())
            if max(curve.losses) < 100 * min(curve.losses):
                axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.set(xlabel="epoch", ylabel="mean training loss")
        panels.append(Panel(curve.stage, drawing, f"Training loss by epoch, {curve.stage}"))
    shown = {curve.stage.partition(",")[0] for curve in evidence.curves}
    caption = "Mean loss of each epoch, on a logarithmic axis where it stays above 0."
    if "stage 1" not in shown:
        caption += " The backbone's log is not at hand: it was trained elsewhere."
    if "stage 3" not in shown:
        caption += " Stage 3 takes seconds and keeps no log."
    return Picture(title, caption, tuple(panels))
