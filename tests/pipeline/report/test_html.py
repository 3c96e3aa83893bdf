"""The page: one script of ours, nothing from outside, and names of strangers as text."""

import re

import pytest
from html_page import ParsedPage
from reported import HOSTILE

from pipeline.report.figures import PICTURES
from pipeline.report.figures.panel import as_svg
from pipeline.report.html import TEMPLATES, html


@pytest.fixture(scope="module")
def parsed(page):
    return ParsedPage(page)


def test_the_only_script_is_ours_and_the_policy_names_it(parsed):
    assert "".join(parsed.scripts) == (TEMPLATES / "sort.js").read_text()
    assert parsed.tags.count("script") == 1
    policy = next(
        value for tag, name, value in parsed.attributes if (tag, name) == ("meta", "content") and "src" in value
    )
    assert re.fullmatch(
        r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-[\w+/]{43}='", policy
    )


def test_nothing_is_fetched_and_nothing_listens(parsed):
    parsed.check_nothing_is_fetched_or_listens()


def test_every_element_is_closed_where_it_was_opened(parsed):
    assert parsed.wrong == []


@pytest.mark.parametrize("broken", ["<p><b>x</p></b>", "<p>x", "x</p>", "<p>x</p></p>"])
def test_what_is_not_closed_is_seen(broken):
    assert ParsedPage(broken).wrong


def test_hostile_names_are_text(parsed, page):
    text = "".join(parsed.texts)
    assert "<script>alert(1)</script>" in text
    assert "{{ 7 * 7 }}" in text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", page)
    assert max(map(len, text.split())) < 200
    assert "\\u202e\\x1b[31m" in text
    assert len(HOSTILE[-1]) > 4000


def test_ids_are_unique_and_every_reference_has_one(parsed, page):
    assert len(parsed.ids) == len(set(parsed.ids))
    references = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page))
    assert references <= set(parsed.ids)
    assert len(references) > 10


def test_every_figure_of_the_register_is_there(parsed, document):
    assert list(document.pictures) == list(PICTURES)
    assert {f"{name}-1" for name in PICTURES} <= set(parsed.ids)
    shown = [panel for picture in document.pictures.values() for panel in picture.panels]
    assert parsed.tags.count("svg") == len(shown) > 15
    for picture in document.pictures.values():
        assert bool(picture.panels) != bool(picture.missing)


def test_it_is_the_same_bits_again(document, evidence):
    panel = document.pictures["pairs"].panels[0]
    again = PICTURES["pairs"](evidence).panels[0]
    assert as_svg(panel, "one") == as_svg(panel, "one")
    assert len(as_svg(again, "one")) > 1000


def test_several_caches_are_one_page(document):
    from dataclasses import replace

    small = replace(document, pictures={name: document.pictures[name] for name in ("divergence",)})
    both = ParsedPage(html([small, small]))
    assert both.tags.count("main") == 2
    assert len(both.ids) == len(set(both.ids))
