"""A report as Markdown, with its figures and images as PNG files beside it."""

import re
from collections.abc import Iterator, Sequence

from pipeline.report.document import Document
from pipeline.report.exported import markdown_rows
from pipeline.report.figures.panel import as_png
from pipeline.report.printable import printable

SIGNS = re.compile(r"([\\`*_{}\[\]()#+.!|<>&~$-])")
"""What Markdown, or HTML within it, may give a meaning."""


def in_markdown(documents: Sequence[Document], folder: str) -> tuple[str, dict[str, bytes]]:
    """The text, and the content of each file by its name; the text names them within `folder`."""
    files: dict[str, bytes] = {}
    lines = [line for document in documents for line in _lines(document, folder, files)]
    return "\n".join(lines).rstrip() + "\n", files


def plain(text: str) -> str:
    """The text on one line, with every sign escaped that Markdown or HTML would read."""
    return SIGNS.sub(r"\\\1", printable(text))


def _lines(document: Document, folder: str, files: dict[str, bytes]) -> Iterator[str]:
    start = document.key[:12]
    yield from (f"# {plain(document.title)}", "", plain(document.summary), "")
    yield from (*markdown_rows(document.groups), "", f"## {plain(document.results.title)}", "")
    yield from (*markdown_rows(document.results), "", plain(document.reading), "")
    for name, picture in document.pictures.items():
        yield from (f"## {plain(picture.title)}", "")
        for number, panel in enumerate(picture.panels, 1):
            file = f"{start}-{name}-{number}.png"
            files[file] = as_png(panel)
            yield from (f"![{plain(panel.alternative)}]({folder}/{file})", "")
        yield from (plain(picture.missing or picture.caption), "")
    yield from ("## The worst errors", "", plain(document.gallery_note), "")
    for number, thumbnail in enumerate(document.gallery, 1):
        file = f"{start}-error-{number}.png"
        files[file] = thumbnail.content
        yield f"- ![{plain(thumbnail.text)}]({folder}/{file}) {plain(thumbnail.text)}"
    yield from ("", "## What was made from what", "")
    yield from (f"- {plain(name)}: {plain(text)}" for name, text in document.lineage)
    yield from ("", "## Settings that are not the defaults", "", "| setting | value | default |", "|---|---|---|")
    yield from ("| " + " | ".join(map(plain, entry)) + " |" for entry in document.settings)
    yield from ("", "## To repeat it", "")
    yield from (f"    {printable(command)}" for command in document.commands)
    yield ""
