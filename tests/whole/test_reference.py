"""docs/reference.md says what the code says."""

from tests.support.reference import PAGE, page


def test_the_reference_is_current():
    assert PAGE.read_text() == page(), "run: python -m tests.support.reference"
