"""A report as one HTML file: no network, no script but the one that sorts its tables, light and dark, fit for print."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.report.document import Document
from pipeline.report.figures.panel import Panel, as_svg
from pipeline.report.page import Page

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).resolve().parent / "templates"


def html(documents: Sequence[Document | Page]) -> str:
    """The page of one report or more. Every text is escaped; the policy in its head lets nothing be loaded or run besides."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (TEMPLATES / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals["svg"] = _svg
    environment.globals["data_address"] = lambda content: f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return environment.get_template("report.html.j2").render(
        documents=documents,
        style=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    )


def _svg(panel: Panel, name: str) -> "Markup":
    """The panel's SVG, in which matplotlib has escaped every text."""
    from markupsafe import Markup

    return Markup(as_svg(panel, name))
