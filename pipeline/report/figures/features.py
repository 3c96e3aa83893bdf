"""Figures of features: the paper's Figures 1, 3 and 4 and its Table 5, on the user's own."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.report.evidence import Evidence
from pipeline.report.evidence.planes import AugmentationPlane
from pipeline.report.evidence.words import shown_name
from pipeline.report.figures.panel import (
    BASELINE,
    CLASS_COLOURS,
    INK,
    MARKERS,
    METHOD,
    OTHER_COLOUR,
    PAPER,
    Panel,
    Picture,
    legend_below,
    new_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SQUARE = 4.3
"""Inches of a panel of points, without its legend."""
LEGEND_ROW = 0.19


def class_or_sample(evidence: Evidence) -> Picture:
    """One variance for a class against a Gaussian of each sample's own (the paper's Figure 1)."""
    title, plane = "One transformation for the class, or one for each sample", evidence.augmentation
    if plane is None:
        missing = evidence.no_generator or "No tail class has two training rows, so no variance of its own."
        return Picture(title, "", missing=missing)
    name = evidence.classes[plane.tail_class]
    panels = [
        Panel("The rows themselves", _augmentation(evidence, plane, None), "Head rows, tail rows and test rows"),
        Panel("Class level: one variance for all", _augmentation(evidence, plane, plane.class_points), "Class level"),
        Panel("Sample level: the STG's", _augmentation(evidence, plane, plane.sample_points), "Sample level"),
    ]
    caption = (
        f"The tail class {name} and the head classes nearest to it, seen in the two directions in which these rows vary most "
        f"({plane.kept:.0f} % of their variance). Dots are augmented samples, {len(plane.class_points):,} from "
        f"{len(plane.train_points)} training rows. At class level every row moves by the class's own variance, which so few "
        "rows hardly show. At sample level the generator gives each row a shift and a variance of its own. Crosses are test "
        "rows, which no classifier has seen: the nearer the dots lie to them, the better. This is Figure 1 of the paper."
    )
    return Picture(title, caption, tuple(panels))


def _augmentation(evidence: Evidence, plane: AugmentationPlane, drawn: NDArray[np.float64] | None) -> "Figure":
    drawing, axes = new_axes(SQUARE)
    if drawn is not None:
        axes.scatter(drawn[:, 0], drawn[:, 1], s=7, color=METHOD, alpha=0.35, linewidths=0, label="augmented samples")
    for c, points, marker, shade in zip(plane.heads, plane.head_points, "os", (0.75, 0.45), strict=False):
        text = f"head: {evidence.classes[c]}"
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=14,
            marker=marker,
            facecolors="none",
            edgecolors=BASELINE,
            alpha=shade,
            label=text,
        )
    tail = evidence.classes[plane.tail_class]
    if len(plane.test_points):
        axes.scatter(
            plane.test_points[:, 0],
            plane.test_points[:, 1],
            s=20,
            marker="x",
            color=INK,
            linewidths=0.9,
            label=f"{tail}: test rows",
        )
    axes.scatter(
        plane.train_points[:, 0],
        plane.train_points[:, 1],
        s=55,
        marker="^",
        color=METHOD,
        edgecolors=PAPER,
        linewidths=1,
        zorder=4,
        label=f"{tail}: training rows",
    )
    every = np.concatenate([*plane.head_points, plane.train_points, plane.test_points, plane.sample_points])
    every = np.concatenate([every, plane.class_points])
    low, high = every.min(axis=0), every.max(axis=0)
    space = 0.04 * (high - low)
    axes.set(xlim=(low[0] - space[0], high[0] + space[0]), ylim=(low[1] - space[1], high[1] + space[1]))
    axes.set(xlabel="first main direction, spreads of a feature", ylabel="second main direction")
    legend_below(drawing)
    return drawing


def training_features(evidence: Evidence) -> Picture:
    """t-SNE of training features, without and with augmented samples (the paper's Figure 3)."""
    title, plane = "Training features, without and with augmented samples", evidence.training
    if plane is None:
        missing = evidence.no_generator or "Too few training rows for t-SNE."
        return Picture(title, "", missing=missing)
    real_N = ~plane.augmented_N
    panels = []
    for heading, shown_N in (("Training rows", real_N), ("With augmented samples", np.ones_like(real_N))):
        drawing, axes = _square(evidence, with_legend=True)
        for place, c in enumerate(evidence.plane_classes):
            for augmented, size, alpha in ((False, 24, 0.9), (True, 9, 0.5)):
                points = plane.points_N2[(plane.labels_N == c) & (plane.augmented_N == augmented) & shown_N]
                _points(axes, place, points, size, alpha, "" if augmented else _sized(evidence, c))
        _frame(axes, plane.points_N2)
        legend_below(drawing)
        panels.append(Panel(heading, drawing, f"t-SNE, {heading.lower()}"))
    caption = (
        f"{int(real_N.sum()):,} training rows and {int(plane.augmented_N.sum()):,} augmented samples of "
        f"{len(evidence.plane_classes)} classes in one plane of t-SNE, which keeps neighbours together and no distances. "
        "Small marks are augmented samples of tail classes; ideally they fill the surroundings of their own class and no "
        "other's. Training rows stand in brackets. This is Figure 3 of the paper."
    )
    return Picture(title, caption, tuple(panels))


def decisions(evidence: Evidence) -> Picture:
    """t-SNE of test features over what each method decides around them, beside the truth (the paper's Figure 4)."""
    title, plane = "What each method decides where", evidence.decisions
    if plane is None:
        return Picture(title, "", missing="Too few test rows for t-SNE.")
    colours = dict(zip(evidence.plane_classes, CLASS_COLOURS, strict=False))
    panels = []
    for number, (name, decided_GG) in enumerate(plane.maps.items()):
        drawing, axes = _square(evidence, with_legend=number == 0)
        axes.imshow(
            _shades(decided_GG, colours),
            origin="lower",
            extent=plane.extent,
            aspect="auto",
            zorder=0,
            interpolation="nearest",
        )
        for place, c in enumerate(evidence.plane_classes):
            _points(axes, place, plane.points_N2[plane.labels_N == c], 16, 0.95, _sized(evidence, c))
        _frame(axes, plane.points_N2)
        if number == 0:
            legend_below(drawing)
        panels.append(Panel(name, drawing, f"t-SNE of test features with the decisions of {name}"))
    caption = (
        f"{len(plane.labels_N):,} test rows of {len(evidence.plane_classes)} classes in a plane of t-SNE, marked by their true "
        "class. The ground has the colour of what is decided there: in the first panel the truth, in the others what the method "
        "predicts for the nearest 5 rows; white is a class that is not shown. Where a mark lies on another colour, rows like "
        "it are mistaken. This is Figure 4 of the paper."
    )
    return Picture(title, caption, tuple(panels))


def _shades(decided_GG: NDArray[np.int64], colours: dict[int, str]) -> NDArray[np.float64]:
    """RGB of a map of decisions, paler than the marks."""
    from matplotlib.colors import to_rgb

    shades_GG3 = np.full((*decided_GG.shape, 3), to_rgb(OTHER_COLOUR))
    for c, colour in colours.items():
        shades_GG3[decided_GG == c] = 0.62 + 0.38 * np.array(to_rgb(colour))
    return shades_GG3


def divergence_map(evidence: Evidence) -> Picture:
    """KL divergences between the transformations of samples of one tail class (the paper's Table 5)."""
    title, divergence = "How the transformations of one class's samples differ", evidence.divergence
    if divergence is None:
        missing = evidence.no_generator or "No tail class has two training rows to compare."
        return Picture(title, "", missing=missing)
    drawing, axes = new_axes(3.9)
    axes.grid(visible=False)
    shown = axes.imshow(divergence.kl_SS, cmap="cividis_r", aspect="auto", vmin=0)
    middle = divergence.kl_SS.max() / 2
    for row, values in enumerate(divergence.kl_SS):
        for column, value in enumerate(values):
            colour = "white" if value > middle else "black"
            axes.text(column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=8.5)
    numbers = range(len(divergence.rows))
    nearest = [f"{number + 1}\n{shown_name(evidence.classes[c], 11)}" for number, c in enumerate(divergence.nearest)]
    axes.set_xticks(numbers, nearest)
    axes.set_yticks(numbers, [str(number + 1) for number in numbers])
    axes.set(xlabel="sample j, and its nearest head class", ylabel="sample i")
    bar = drawing.colorbar(shown, ax=axes)
    bar.set_label("KL(i ‖ j), nats")
    bar.outline.set_visible(False)
    caption = (
        f"Training rows of the tail class {evidence.classes[divergence.tail_class]}, seeded, and the Kullback-Leibler divergence "
        "between the Gaussians that the generator gives them. Large numbers say that the rows are transformed differently; rows "
        "with the same nearest head class tend to be closer. This is Table 5 of the paper."
    )
    return Picture(title, caption, (Panel("", drawing, "Heat map of KL divergences between samples"),))


def _sized(evidence: Evidence, c: int) -> str:
    return f"{evidence.classes[c][:20]} ({evidence.counts[c]})"


def _square(evidence: Evidence, with_legend: bool) -> "tuple[Figure, Axes]":
    rows = (len(evidence.plane_classes) + 1) // 2 if with_legend else 0
    drawing, axes = new_axes(SQUARE - 0.6 + LEGEND_ROW * rows)
    axes.grid(visible=False)
    return drawing, axes


def _points(axes: "Axes", place: int, points: NDArray[np.float64], size: float, alpha: float, text: str) -> None:
    label = text or "_nolegend_"
    axes.scatter(
        points[:, 0],
        points[:, 1],
        s=size,
        marker=MARKERS[place],
        color=CLASS_COLOURS[place],
        alpha=alpha,
        edgecolors=INK if text else "none",
        linewidths=0.35,
        label=label,
    )


def _frame(axes: "Axes", points_N2: NDArray[np.float64]) -> None:
    from pipeline.report.evidence.embedding import extent

    left, right, bottom, top = extent(points_N2)
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])
    axes.set(xlabel="t-SNE 1 (no unit)", ylabel="t-SNE 2 (no unit)")
