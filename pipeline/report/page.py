"""A page of sections, which HTML and Markdown render the same: what is reported beside a cache's runs."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.report.figures.panel import Picture
from pipeline.report.layout import Table


@dataclass(frozen=True)
class Thumbnail:
    """A small image as PNG, and what it is."""

    content: bytes
    text: str


@dataclass(frozen=True)
class Chapter:
    """A heading, and below it what there is of a text, a figure, a table, images, and lines that are shown as they are."""

    heading: str
    text: str = ""
    picture: Picture | None = None
    table: Table | None = None
    gallery: tuple[Thumbnail, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Page:
    """A title, a first paragraph in plain words, and sections. `key` begins the names of its files."""

    template: ClassVar[str] = "page.html.j2"
    key: str
    title: str
    summary: str
    sections: tuple[Chapter, ...]
