"""Names in one line of text."""

from collections.abc import Sequence

NAMED = 20
"""A line holds at most so many names. The others are counted."""


def listed(names: Sequence[str], limit: int = NAMED) -> str:
    """The first `limit` names, joined by commas, and how many more there are."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
