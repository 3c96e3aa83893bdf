"""A table as Markdown or LaTeX: what a paper or a README takes. Pure."""

from pipeline.report.layout import Table
from pipeline.report.printable import printable

LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "\\": "\\textbackslash{}",
    "±": "$\\pm$",
    "≈": "$\\approx$",
    "–": "--",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "…": "\\ldots{}",
    "×": "$\\times$",
    "λ": "$\\lambda$",
}


def markdown(table: Table) -> str:
    """A table of GitHub's Markdown under its title; figures are aligned to the right."""
    return "\n".join([_markdown_text(table.title), "", *markdown_rows(table)]) + "\n"


def markdown_rows(table: Table) -> list[str]:
    """The same without its title, a line each."""
    head = _markdown_row(tuple(column.name for column in table.columns))
    rule = "|" + "|".join("---:" if column.figures else "---" for column in table.columns) + "|"
    return [head, rule, *map(_markdown_row, table.rows)]


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(_markdown_text, cells)) + " |"


def _markdown_text(text: str) -> str:
    escaped = "".join(f"\\{sign}" if sign in "\\|`*_[]<>&$~" else sign for sign in printable(text))
    return escaped.strip()


def latex(table: Table) -> str:
    """A `table` environment with booktabs' rules; the title is its caption."""
    columns = "".join("r" if column.figures else "l" for column in table.columns)
    rows = [_latex_row(row) for row in table.rows]
    head = _latex_row(tuple(column.name for column in table.columns))
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        f"  \\caption{{{_latex_text(table.title)}}}",
        f"  \\begin{{tabular}}{{{columns}}}",
        "    \\toprule",
        f"    {head}",
        "    \\midrule",
        *(f"    {row}" for row in rows),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(map(_latex_text, cells)) + " \\\\"


def _latex_text(text: str) -> str:
    return "".join(LATEX.get(sign, sign) for sign in printable(text)).strip()
