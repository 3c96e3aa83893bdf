"""Writing a report to where it is wanted."""

from collections.abc import Sequence
from pathlib import Path

from cache.disk import durable
from pipeline.artefacts.folders import write_text
from pipeline.artefacts.outputs import output_path
from pipeline.errors import ConfigError
from pipeline.report.document import documents
from pipeline.report.html import html
from pipeline.report.markdown import in_markdown
from pipeline.report.page import Page
from pipeline.report.subject import Subject
from pipeline.report.sweep_page import Swept

NAMED_CACHES = 3
"""Caches and sweeps whose keys stand in a report's name."""


def write_report(subjects: Sequence[Subject | Swept], output: Path | None = None, as_markdown: bool = False) -> Path:
    """Write the report of these caches and sweeps: one HTML file, or Markdown with a folder of PNG files; where it is.

    By default it lies beside the first method's run folder, or the first sweep's, under their keys.
    Raises ConfigError for an `output` that is a folder, CacheStorage where the disk does not take it.
    """
    ending = ".md" if as_markdown else ".html"
    keys = "-".join(about.short for about in subjects[:NAMED_CACHES])
    path = _place("--output", output or subjects[0].home / f"report-{keys}{ending}", ending)
    made = documents(subjects)
    if not as_markdown:
        write_text(path, html(made))
        return path
    folder = path.with_name(f"{path.stem}-figures")
    text, files = in_markdown(made, _address(folder.name))
    durable.make_folder(folder.absolute())
    for name, content in files.items():
        durable.replace(folder / name, content)
    write_text(path, text)
    return path


def write_pages(pages: Sequence[Page], path: Path) -> None:
    """Write these pages as one HTML file, at a path from `page_path`. Raises CacheStorage where the disk does not take it."""
    write_text(path, html(pages))


def page_path(path: Path) -> Path:
    """Where the page goes that `--html` names, in a folder that is made. Raises ConfigError for what cannot be written."""
    return _place("--html", path, ".html")


def _place(option: str, path: Path, ending: str) -> Path:
    """Where a page goes, in a folder that is made; what cannot be written to is found before the work."""
    if path.is_dir():
        raise ConfigError(f"{option} {path}: wanted a file, found a folder; give a name that ends in {ending}")
    durable.make_folder(path.absolute().parent)
    return output_path(option, path)


def _address(name: str) -> str:
    from urllib.parse import quote

    return quote(name)
