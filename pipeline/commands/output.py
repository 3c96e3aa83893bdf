"""The one way to print: documents and texts on stdout, failures on stderr. Nothing else in coattail prints to stdout."""

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pipeline.report.layout import Part, lines_of
from pipeline.report.printable import printable

LONGEST = 4000
"""Characters of a line on stderr; a stranger's text may have millions."""
_NOT_UTF_8 = re.compile("[\ud800-\udfff]")
"""What Python puts for bytes of a path that are no UTF-8."""
IN_ASCII = {"─": "-", "–": "-", "—": "-", "±": "+-", "…": "...", "×": "x"}
"""Signs of ours, and what stands for them where the terminal's encoding has none."""


def show(document: Any, as_json: bool, text: "Sequence[Part] | Callable[[], Sequence[Part]]") -> None:
    """The document as JSON; or, for a person, lines and tables, or what gives them.

    What others wrote is escaped (`printable`), so that one text is one line. On a terminal tables are as wide as it is, in
    a pipe as wide as their figures. Under torchrun the first process alone prints.
    """
    from pipeline.machine.rank import rank

    if rank():
        return
    if as_json:
        say(in_json(document))
        return
    parts = text() if callable(text) else text
    for line in lines_of(parts, _width(), _spelt):
        say(line)


def in_json(document: Any) -> str:
    """The document as JSON that every reader takes: what a path holds that is no UTF-8 is escaped, as elsewhere."""
    text = json.dumps(document, ensure_ascii=False)
    if _NOT_UTF_8.search(text):
        # Within JSON, the backslash of such an escape is itself escaped.
        document = json.loads(_NOT_UTF_8.sub(lambda sign: f"\\\\u{ord(sign[0]):04x}", text))
    return json.dumps(document)


def say(line: str) -> None:
    """One line on stdout. click would write UTF-8 where the terminal says that it takes ASCII."""
    print(line, flush=True)


def complain(line: str) -> None:
    """One line on stderr, whatever the text holds; of a very long one, the two ends."""
    line = printable(line)
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"
    print(line, file=sys.stderr, flush=True)


def _width() -> int | None:
    """Columns of the terminal. None in a pipe or a file, whose lines may have any length."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def _spelt(text: str) -> str:
    """The text made printable. Signs of ours that stdout's encoding lacks become ASCII."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    for sign, plain in IN_ASCII.items():
        if sign in text and sign.encode(encoding, "replace") == b"?":
            text = text.replace(sign, plain)
    return printable(text)


def fail(lines: Sequence[str], code: int) -> int:
    """The lines on stderr, each with our name before it, and under --json `{"error": …}` on stdout; the exit code."""
    if speaks():
        for line in lines:
            complain(f"coattail: {line}")
        fail_in_json("\n".join(lines))
    return code


def fail_in_json(text: str) -> None:
    """`{"error": text}` on stdout where the command was called with --json."""
    if wants_json(sys.argv[1:]):
        with suppress(OSError):  # the failure may be stdout's own
            say(in_json({"error": text}))


def close_output() -> None:
    """Flush stdout. Where nobody reads it any more, drop the rest: Python would otherwise complain again when it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json is among the words of the command line. A command that was called wrongly has no parsed options."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def speaks() -> bool:
    """Whether this process prints a failure. Under torchrun all processes fail together, and one of them says why."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from pipeline.machine.group import speaks_first

    return speaks_first()
