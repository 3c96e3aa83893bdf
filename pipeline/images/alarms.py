"""An alarm: a possible fault of a data set or a cache that its owner should look at before training on it."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from pipeline.images.listing import NAMED


class Alarm(BaseModel):
    """One suspicion: its kind, a sentence, how many rows, files or classes it is about, and up to 20 of them by name."""

    model_config = ConfigDict(frozen=True)

    kind: str
    text: str
    count: int
    examples: tuple[str, ...] = ()


def alarm(kind: str, text: str, examples: Sequence[str], count: int | None = None) -> list[Alarm]:
    """The alarm about these names, as a list of one; an empty list where there are none, and `count` does not say more."""
    count = len(examples) if count is None else count
    return [Alarm(kind=kind, text=text, count=count, examples=tuple(examples[:NAMED]))] if count else []
