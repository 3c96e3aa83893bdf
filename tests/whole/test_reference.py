"""docs/reference.md says what the code says."""

import os

import pytest

from tests.support.reference import PAGE, page


@pytest.mark.skipif(not os.environ.get("CI"), reason="another version of click words its help in another way")
def test_the_reference_is_current():
    assert PAGE.read_text() == page(), "run: python -m tests.support.reference"
