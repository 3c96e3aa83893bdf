"""Names that others wrote, as a report shows them: on one line, and short. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.report.layout import Table
from pipeline.report.printable import printable

NAME_LENGTH = 28
"""Characters of a class name that a picture or a table has room for."""


def shown_name(name: object, limit: int = NAME_LENGTH) -> str:
    """The text with control characters and marks of direction escaped, cut to `limit` characters."""
    text = printable(str(name)[: 4 * limit])
    return text if len(text) <= limit and len(str(name)) <= 4 * limit else text[: limit - 1] + "…"


def shown_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of all classes; where two would look the same, or one is blank, each of those has its number before it."""
    short = [shown_name(name) for name in classes]
    same = {name for name in short if short.count(name) > 1} if len(set(short)) < len(short) else set()
    return tuple(f"{c}: {name}" if name in same or not name.strip() else name for c, name in enumerate(short))


def shown_table(table: Table, limit: int) -> Table:
    """The table with every cell, and every column's name, as `shown_name` has it."""
    columns = tuple(replace(column, name=shown_name(column.name, limit)) for column in table.columns)
    return Table(table.title, columns, tuple(tuple(shown_name(cell, limit) for cell in row) for row in table.rows))
