"""Tables as Markdown and LaTeX: exact texts, and nothing of a name acts on the document."""

from pipeline.report.exported import latex, markdown
from pipeline.report.layout import Table, figures, names

TABLE = Table(
    "all_50 & more", (*names("method"), *figures("top-1 %")), (("a|b_c", "47.3 ± 0.1"), ("\\input{x}\n", "–"))
)


def test_markdown():
    assert markdown(TABLE) == (
        "all\\_50 \\& more\n\n| method | top-1 % |\n|---|---:|\n| a\\|b\\_c | 47.3 ± 0.1 |\n| \\\\input{x}\\\\n | – |\n"
    )


def test_latex():
    lines = latex(TABLE).splitlines()
    assert lines[2:4] == ["  \\caption{all\\_50 \\& more}", "  \\begin{tabular}{lr}"]
    assert lines[5] == "    method & top-1 \\% \\\\"
    assert lines[7] == "    a|b\\_c & 47.3 $\\pm$ 0.1 \\\\"
    assert lines[8] == "    \\textbackslash{}input\\{x\\}\\textbackslash{}n & -- \\\\"
