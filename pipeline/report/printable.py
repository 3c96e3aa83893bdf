"""Text from strangers, with everything escaped that could mislead a terminal or its reader. Pure.

The names, authors and class names of a shared cache come from strangers. A terminal obeys the control characters in them,
a line break in a name looks like a line of ours, and marks of direction turn the rest of a line around.
"""


def printable(text: object) -> str:
    """The text on one line: every character but letters, digits, signs and the space is escaped, such as `\\x1b`, `\\n`.

    Escaped are control characters, line breaks, marks of direction, and the halves of characters (surrogates) that Python
    puts in place of bytes that are no UTF-8.
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in str(text))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
