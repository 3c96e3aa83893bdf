"""One step of a plan."""

from pydantic import BaseModel, ConfigDict


class Step(BaseModel):
    """One step of a plan. `seconds` is None where only running it would tell."""

    model_config = ConfigDict(frozen=True)

    name: str
    does: str
    """`run`, `go on` or `reuse`."""
    why: str
    images: int = 0
    bytes_written: int = 0
    seconds: float | None = None
