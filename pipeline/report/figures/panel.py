"""The parts of a report's figures, their colours, and their output as SVG or PNG. matplotlib is imported only to draw."""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.report.evidence import Evidence

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Formatter

WIDTH, HEIGHT = 4.8, 3.3
"""Inches of a panel: narrow enough to be read on a telephone, and two beside each other on a screen."""
INK, RULE, PAPER = "#1d1e21", "#c8cacf", "#fdfdfe"
BASELINE, METHOD = "#0072b2", "#d55e01"
"""Blue and vermilion of Okabe and Ito (2008), which people with any colour vision can tell apart."""
THEMED = {
    INK: "currentColor",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    BASELINE: "var(--first)",
    METHOD: "var(--second)",
}
"""Colours that the page sets, so that a figure follows it from light to dark."""
CLASS_COLOURS = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
"""Of ten classes (Petroff, 2021, Accessible Color Sequences); each class has a marker of its own besides."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
MANY_POINTS = 2000
"""Of more points than this an SVG holds a picture, or it would take megabytes."""
OTHER_COLOUR = "#ffffff"
"""Of every class that has no colour of its own."""
LOOK: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Panel:
    """One drawing with its heading, and a text that describes it to readers who cannot see it."""

    heading: str
    drawing: "Figure"
    alternative: str


@dataclass(frozen=True)
class Picture:
    """A figure of the report: a title, what it says in plain words, and its panels; none where `missing` says why."""

    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    missing: str = ""


Drawer = Callable[[Evidence], Picture]


def new_axes(height: float = HEIGHT, width: float = WIDTH) -> "tuple[Figure, Axes]":
    """A panel's figure and axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def plain_number() -> "Formatter":
    """Ticks as 0.1, 5, 1,000: no powers of ten, which want a typesetter of formulas."""
    from matplotlib.ticker import FuncFormatter

    return FuncFormatter(lambda value, _: f"{value:,.4g}")


def legend_below(drawing: "Figure") -> None:
    """A legend under the axes whose marks are large enough to tell apart, however small the points are."""
    from matplotlib.collections import PathCollection

    legend = drawing.legend(loc="outside lower center", ncols=2, handletextpad=0.2)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set(sizes=[max(32, *handle.get_sizes())], alpha=1)


def as_svg(panel: Panel, name: str) -> str:
    """The panel as an SVG element for the inside of a page: no address, ids that begin with `name`, the same bits each time."""
    import matplotlib

    with matplotlib.rc_context({**LOOK, "svg.hashsalt": name}):
        content = io.StringIO()
        with warnings.catch_warnings():
            # A name in a script that the font lacks is measured with boxes; the browser draws the text itself.
            warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
            panel.drawing.savefig(
                content, format="svg", dpi=144, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
            )
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening, _, inside = text.partition(">")
    opening = re.sub(r' (xmlns(:\w+)?|version|width|height)="[^"]*"', "", opening)
    prefix = hashlib.sha256(name.encode()).hexdigest()[:8]
    inside = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", inside)
    for colour, variable in THEMED.items():
        inside = inside.replace(colour, variable)
    title = f'<title id="{prefix}-title">{_escaped(panel.alternative)}</title>'
    return f'{opening} role="img" aria-labelledby="{prefix}-title">{title}{inside}'


def as_png(panel: Panel, dots: int = 144) -> bytes:
    """The panel as PNG on white, `dots` an inch."""
    import matplotlib

    with matplotlib.rc_context(LOOK):
        content = io.BytesIO()
        panel.drawing.savefig(content, format="png", dpi=dots, facecolor="white", metadata={"Software": None})
    return content.getvalue()


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
