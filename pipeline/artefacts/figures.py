"""Types with ranges for the figures in metrics.json, so that a file with impossible figures is refused."""

from typing import Annotated

from pydantic import Field

Percent = Annotated[float, Field(ge=0, le=100.0001, allow_inf_nan=False)]
"""A share of rows or a confidence, in percent. Up to 0.0001 above 100 is allowed, as rounding may give that."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
"""A number of things, or a number that names one of them: 0 or more."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""sha256 in hexadecimal."""
