"""A report as Markdown, with its figures and images as PNG files beside it."""

import re
from collections.abc import Iterator, Sequence

from pipeline.report.document import Document
from pipeline.report.exported import markdown_rows
from pipeline.report.figures.panel import Picture, as_png
from pipeline.report.page import Page, Thumbnail
from pipeline.report.printable import printable

SIGNS = re.compile(r"([\\`*_{}\[\]()#+.!|<>&~$-])")
"""What Markdown, or HTML within it, may give a meaning."""


def in_markdown(documents: Sequence[Document | Page], folder: str) -> tuple[str, dict[str, bytes]]:
    """The text, and the content of each file by its name; the text names them within `folder`."""
    files: dict[str, bytes] = {}
    lines: list[str] = []
    for document in documents:
        if isinstance(document, Page):
            lines += _page_lines(document, folder, files)
        else:
            lines += _lines(document, folder, files)
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
        yield from (f"## {plain(picture.title)}", "", *_picture(picture, f"{start}-{name}", folder, files))
    yield from ("## The worst errors", "", plain(document.gallery_note), "")
    yield from _gallery(document.gallery, f"{start}-error", folder, files)
    yield from ("", "## What was made from what", "")
    yield from (f"- {plain(name)}: {plain(text)}" for name, text in document.lineage)
    yield from ("", "## Settings that are not the defaults", "", "| setting | value | default |", "|---|---|---|")
    yield from ("| " + " | ".join(map(plain, entry)) + " |" for entry in document.settings)
    yield from ("", "## To repeat it", "")
    yield from (f"    {printable(command)}" for command in document.commands)
    yield ""


def _picture(picture: Picture, name: str, folder: str, files: dict[str, bytes]) -> Iterator[str]:
    for number, panel in enumerate(picture.panels, 1):
        file = f"{name}-{number}.png"
        files[file] = as_png(panel)
        yield from (f"![{plain(panel.alternative)}]({folder}/{file})", "")
    yield from (plain(picture.missing or picture.caption), "")


def _gallery(gallery: Sequence[Thumbnail], name: str, folder: str, files: dict[str, bytes]) -> Iterator[str]:
    for number, thumbnail in enumerate(gallery, 1):
        file = f"{name}-{number}.png"
        files[file] = thumbnail.content
        yield f"- ![{plain(thumbnail.text)}]({folder}/{file}) {plain(thumbnail.text)}"


def _page_lines(page: Page, folder: str, files: dict[str, bytes]) -> Iterator[str]:
    yield from (f"# {plain(page.title)}", "", plain(page.summary), "")
    for number, section in enumerate(page.sections, 1):
        name = f"{page.key}-{number}"
        yield from (f"## {plain(section.heading)}", "")
        yield from (plain(section.text), "") if section.text else ()
        yield from _picture(section.picture, name, folder, files) if section.picture else ()
        yield from (*_gallery(section.gallery, name, folder, files), "") if section.gallery else ()
        yield from (*markdown_rows(section.table), "") if section.table else ()
        yield from (*(f"    {printable(line)}" for line in section.lines), "") if section.lines else ()
