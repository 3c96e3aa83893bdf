"""The page in Chromium: no script errors, nothing fetched, no overflow, and tables that sort."""

import pytest
from browser import CHROMIUM, browsing


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
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
