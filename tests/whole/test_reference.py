"""docs/reference.md says what the code says."""

import importlib.metadata

import pytest

from tests.support.reference import CLICK, PAGE, page


@pytest.mark.skipif(
    not importlib.metadata.version("click").startswith(f"{CLICK}."),
    reason=f"the page has the help as click {CLICK} words it",
)
def test_the_reference_is_current():
    assert PAGE.read_text() == page(), "run: python -m tests.support.reference"
