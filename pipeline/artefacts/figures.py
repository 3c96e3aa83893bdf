"""What the figures of a run may be: types with their ranges, for the models of metrics.json."""

from typing import Annotated

from pydantic import Field

Percent = Annotated[float, Field(ge=0, le=100.0001, allow_inf_nan=False)]
"""A share of rows or of confidence, in percent; the ten-thousandth above 100 is for rounding."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
"""A number of things, or a number that names one of them: 0 or more."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""sha256 in hexadecimal."""
