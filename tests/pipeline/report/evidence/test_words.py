"""Names of strangers, as a report shows them."""

from reported import HOSTILE

from pipeline.report.evidence.words import NAME_LENGTH, shown_name, shown_names


def test_names_are_on_one_line_and_short():
    for name in (*HOSTILE, "x" * 10_000, "\u2066" * 3000, "\ud800", ""):
        shown = shown_name(name)
        assert len(shown) <= NAME_LENGTH
        assert shown.isprintable() or shown == ""
    assert shown_name("cat") == "cat"
    assert shown_name("a\x1b[0m") == "a\\x1b[0m"
    assert shown_name("y" * 29) == "y" * 27 + "…"


def test_names_that_would_look_the_same_have_their_number():
    assert shown_names(["a" * 40, "a" * 41, "b", " "]) == ("0: " + "a" * 27 + "…", "1: " + "a" * 27 + "…", "b", "3:  ")
