"""What a misspelt name probably meant."""

import difflib
from collections.abc import Sequence


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """`did you mean crt? `, to stand in a message before the list of names; empty where none is near."""
    closest = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {closest[0]}? " if closest else ""
