"""The same as Markdown, with PNG files."""

import re
from dataclasses import replace

from pipeline.report.markdown import in_markdown, plain


def test_figures_are_files_and_names_are_harmless(document):
    small = replace(document, pictures={name: document.pictures[name] for name in ("class-counts", "divergence")})
    text, files = in_markdown([small], "report-figures")
    assert set(re.findall(r"\]\(report-figures/([^)]+)\)", text)) == set(files)
    assert len(files) == 2
    for name, content in files.items():
        assert re.fullmatch(r"[0-9a-f]{12}-[a-z-]+-\d\.png", name)
        assert content.startswith(b"\x89PNG")
    assert not re.search(r"(?<!\\)<", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)
    assert "](javascript" not in text
    assert text.startswith("# \\<script\\>alert\\(1\\)")


def test_a_table_keeps_its_columns(document):
    text, _ = in_markdown([replace(document, pictures={})], "figures")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert set(bars) == {8, len(document.results.columns) + 1, 4}


def test_signs_are_escaped():
    assert plain("a|b*c\n<d>[e](f)") == "a\\|b\\*c\\\\n\\<d\\>\\[e\\]\\(f\\)"
