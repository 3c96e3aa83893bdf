"""Tables: figures are never cut, names wrap, and what does not fit moves below."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from pipeline.report.layout import NARROWEST, Table, figures, lines_of, names

LONG = "mixup + label smoothing + TrivialAugment + Cutout + SAM + EMA (stage 1)"
TABLE = Table(
    "results",
    (*names("method"), *figures("all", "few", "s")),
    ((LONG, "48.3 ± 0.2", "12.5 ± 1.1", "0.1"), ("cRT + STG", "–", "1.0 ± 0.0", "12.2")),
)


def test_a_pipe_gets_whole_rows():
    assert TABLE.lines() == [
        "results",
        "",
        "method" + " " * 65 + "         all         few     s",
        "─" * 101,
        f"{LONG}  48.3 ± 0.2  12.5 ± 1.1   0.1",
        f"{'cRT + STG':71}           –   1.0 ± 0.0  12.2",
    ]


def test_names_wrap_first():
    assert TABLE.lines(60)[4:8] == [
        "mixup + label smoothing +       48.3 ± 0.2  12.5 ± 1.1   0.1",
        "TrivialAugment + Cutout + SAM",
        "+ EMA (stage 1)",
        "cRT + STG                                –   1.0 ± 0.0  12.2",
    ]


def test_columns_that_do_not_fit_move_below():
    assert TABLE.lines(40)[1:4] == ["", "method                   all         few", "─" * 40]
    assert TABLE.lines(40)[10:] == [
        "",
        "method                                 s",
        "─" * 40,
        "mixup + label smoothing +            0.1",
        "TrivialAugment + Cutout + SAM +",
        "EMA (stage 1)",
        "cRT + STG                           12.2",
    ]


@given(
    st.lists(
        st.tuples(st.text(st.sampled_from("ab ü猫"), max_size=80), *[st.integers(0, 10**9)] * 4), min_size=1, max_size=4
    ),
    st.integers(1, 90),
)
def test_every_figure_is_there_and_every_line_fits(rows, width):
    cells = tuple((name, *(str(number) for number in numbers)) for name, *numbers in rows)
    table = Table("t", (*names("name"), *figures(*"wxyz")), cells)
    lines = table.lines(width)
    words = " ".join(lines).split()
    assert all(words.count(figure) >= 1 for row in cells for figure in row[1:])
    widest = NARROWEST + 2 + max(len(figure) for row in cells for figure in row[1:])
    assert max(map(cell_len, lines)) <= max(width, widest)


@pytest.mark.parametrize("where", ["title", "column", "cell", "text"])
def test_a_line_break_in_a_text_makes_no_line(where):
    texts = {name: "a\nb\x1b[2J" if name == where else "x" for name in ("title", "column", "cell", "text")}
    table = Table(texts["title"], names(texts["column"]), ((texts["cell"],),))
    lines = lines_of([table, texts["text"]], None)
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)
