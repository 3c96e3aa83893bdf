"""Tables and lines as text of a given width. Figures are never cut: what does not fit moves below, and names wrap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from pipeline.report.printable import printable

GAP = "  "
"""Between two columns."""
NARROWEST = 16
"""Cells of the terminal that a column of names has at least, where they wrap."""


@dataclass(frozen=True)
class Column:
    """A column's name, whether it holds figures (right-aligned), and whether its cells may wrap."""

    name: str
    figures: bool = False
    wraps: bool = False


def names(*columns: str) -> tuple[Column, ...]:
    """Columns of names, which wrap where the terminal is narrow."""
    return tuple(Column(name, wraps=True) for name in columns)


def figures(*columns: str) -> tuple[Column, ...]:
    """Columns of figures."""
    return tuple(Column(name, figures=True) for name in columns)


def tenths(value: float | None) -> str:
    """A figure to a tenth; a dash where there is none."""
    return "–" if value is None else f"{value:.1f}"


@dataclass(frozen=True)
class Table:
    """A title, columns, and a row of cells a line; the first column says what a row is about."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    def lines(self, width: int | None = None, spell: Callable[[str], str] = printable) -> list[str]:
        """The lines of text, at most `width` cells wide where the figures allow it; None: as wide as they want to be.

        `spell` makes a cell's text fit for where it is printed.
        """
        columns = [Column(spell(column.name), column.figures, column.wraps) for column in self.columns]
        rows = [[spell(cell) for cell in row] for row in self.rows]
        lines = [spell(self.title)]
        for block in _blocks(columns, rows, width):
            lines += ["", *_block_lines(block, columns, rows, spell("─"))]
        return lines


Part = str | Table
"""What `lines_of` takes: a line of text, or a table."""


def lines_of(parts: Sequence[Part], width: int | None, spell: Callable[[str], str] = printable) -> list[str]:
    """The parts below each other. A text is one line, whatever it holds; a terminal wraps it by itself."""
    lines: list[str] = []
    for part in parts:
        lines += part.lines(width, spell) if isinstance(part, Table) else [spell(part)]
    return lines


def _blocks(columns: list[Column], rows: list[list[str]], width: int | None) -> Iterator[dict[int, int]]:
    """The width of each column, by its number, a block at a time; every block begins with the first column."""
    wanted = [
        max(map(cell_len, [column.name, *cells])) for column, cells in zip(columns, _cells(columns, rows), strict=True)
    ]
    if width is None:
        yield dict(enumerate(wanted))
        return
    least = [min(size, NARROWEST) if column.wraps else size for column, size in zip(columns, wanted, strict=True)]
    rest = list(range(1, len(columns)))
    while rest or len(columns) == 1:
        block = [0]
        while rest and (len(block) == 1 or _total([*block, rest[0]], least) <= width):
            block.append(rest.pop(0))
        spare = max(0, width - _total(block, least))
        sizes = {}
        for number in block:
            more = min(spare, wanted[number] - least[number])
            sizes[number] = least[number] + more
            spare -= more
        yield sizes
        if not rest:
            return


def _cells(columns: list[Column], rows: list[list[str]]) -> list[list[str]]:
    return [[row[number] for row in rows] for number in range(len(columns))]


def _total(block: list[int], sizes: list[int]) -> int:
    return sum(sizes[number] for number in block) + len(GAP) * (len(block) - 1)


def _block_lines(sizes: dict[int, int], columns: list[Column], rows: list[list[str]], rule: str) -> list[str]:
    head = _row_lines([columns[number].name for number in sizes], sizes, columns)
    lines = [*head, rule * (sum(sizes.values()) + len(GAP) * (len(sizes) - 1))]
    for row in rows:
        lines += _row_lines([row[number] for number in sizes], sizes, columns)
    return lines


def _row_lines(cells: list[str], sizes: dict[int, int], columns: list[Column]) -> list[str]:
    """One row: as many lines as its tallest cell has."""
    wrapped = [_wrapped(cell, size) for cell, size in zip(cells, sizes.values(), strict=True)]
    lines = []
    for level in range(max(map(len, wrapped))):
        texts = [
            _padded(cell[level] if level < len(cell) else "", size, columns[number].figures)
            for cell, (number, size) in zip(wrapped, sizes.items(), strict=True)
        ]
        lines.append(GAP.join(texts).rstrip())
    return lines


def _padded(text: str, size: int, to_the_right: bool) -> str:
    spaces = " " * (size - cell_len(text))
    return spaces + text if to_the_right else text + spaces


def _wrapped(text: str, size: int) -> list[str]:
    """The text in lines of at most `size` cells, broken at spaces, and within a word only where it is longer than a line."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if cell_len(longer) <= size:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while cell_len(lines[-1]) > size:
            kept = _start(lines[-1], size)
            lines[-1:] = [kept, lines[-1][len(kept) :]]
    return lines


def _start(text: str, size: int) -> str:
    """The longest start of the text that `size` cells hold, one character at least."""
    end = 1
    while end < len(text) and cell_len(text[: end + 1]) <= size:
        end += 1
    return text[:end]
