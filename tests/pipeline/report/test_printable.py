"""Text of others on a terminal: one line, and nothing that the terminal obeys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.report.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("café 猫 ± –", "café 猫 ± –"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\x85c\x9b", "a\\u2028b\\x85c\\x9b"),
        ("\udcff", "\\udcff"),
        (12, "12"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_any_text_is_one_printable_line(text):
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode("utf-8")
