"""The page in Chromium: no script errors, nothing fetched, no overflow, and tables that sort."""

import pytest
from browser import CHROMIUM, browsing
from reported import HOSTILE

from pipeline.report.evidence.words import shown_name
from pipeline.report.html import html
from pipeline.report.layout import Table, names
from pipeline.report.page import Chapter, Page, Thumbnail


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is wanted: apt-get install chromium")
    with browsing(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_and_nothing_goes_wrong(browser, page, tmp_path, width):
    file = tmp_path / "report.html"
    file.write_text(page)
    browser.show(file, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('svg').length") > 15
    first = "document.querySelector('table.sortable tbody').rows[0].cells[0].textContent"
    before = browser.evaluate(first)
    browser.evaluate("document.querySelectorAll('table.sortable th button')[0].click()")
    ascending = browser.evaluate(first)
    browser.evaluate("document.querySelectorAll('table.sortable th button')[0].click()")
    assert len({ascending, browser.evaluate(first)}) == 2
    assert before is not None
    _check_quiet(browser)


def _check_quiet(browser):
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []


@pytest.mark.parametrize("width", [400, 1400])
def test_a_page_of_sections_fits_too(browser, tmp_path, width):
    """Those of a sweep and of labels: names that are long and hostile, a wide table, images."""
    wide = Table(
        "",
        names(*(f"{number}: {shown_name(name)}" for number in range(4) for name in HOSTILE)),
        ((shown_name(HOSTILE[-1]),) * 20,),
    )
    images = tuple(Thumbnail(b"", shown_name(name, 60)) for name in HOSTILE)
    section = Chapter(
        shown_name(HOSTILE[0]), shown_name(HOSTILE[-1], 120), None, wide, images, (shown_name(HOSTILE[-1], 200),)
    )
    file = tmp_path / "page.html"
    file.write_text(html([Page("key", HOSTILE[0], "x " * 99, (section,))]))
    browser.show(file, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('img').length") == len(HOSTILE)
    _check_quiet(browser)
