"""The value that becomes white in images of more than 8 bits, or of floats. It is the same for all images of a data set.

A file of 16 bits does not say how many of them its camera used. So the largest value of all images of the data set
decides: 12 bits in 16 are scaled by 4095. Portable grey maps do say what is white, and are scaled by that.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras and scanners. Of 32-bit integers above them, such as counts, the bits of the largest value."""
REAL_WHITES = (1.0, 255.0, 65535.0)
OVERSHOOT = 1.5
"""Floats may pass white by this factor, as resampling leaves them, and are cut off there."""


@dataclass(frozen=True)
class Peak:
    """Largest value of an image: of integers deeper than 8 bits, or of floats; 0 where it holds none."""

    integer: int = 0
    real: float = 0.0


NO_PEAK = Peak()


@dataclass(frozen=True)
class Scale:
    """The values that become 255, in images of integers deeper than 8 bits and in images of floats."""

    integer: int = 65535
    real: float = 1.0

    @staticmethod
    def of(peaks: Iterable[Peak]) -> "Scale":
        """The scale of a data set with these images; the defaults where it holds no deep ones."""
        integer, real = 0, 0.0
        for peak in peaks:
            integer, real = max(integer, peak.integer), max(real, peak.real)
        return Scale(_integer_white(integer) if integer else 65535, _real_white(real))

    def described(self) -> dict[str, int | float]:
        """What a cache's identity says of it: nothing of the defaults, which were the only scale of earlier versions."""
        integer = {} if self.integer == Scale.integer else {"white": self.integer}
        real = {} if self.real == Scale.real else {"white_of_floats": self.real}
        return {**integer, **real}

    def integers(self, values: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Integers (any shape) as 8 bits: 0 and less is black, `integer` and more is white."""
        scaled = values.astype(np.float64).clip(0, self.integer) * (255 / self.integer)
        return np.rint(scaled).astype(np.uint8)

    def reals(self, values: NDArray[np.floating]) -> NDArray[np.uint8]:
        """Floats (any shape) as 8 bits: 0 and less and what is no number is black, `real` and more is white."""
        finite = np.nan_to_num(values, nan=0.0, posinf=self.real, neginf=0.0)
        return np.rint((finite * (255 / self.real)).clip(0, 255)).astype(np.uint8)


FULL_SCALE = Scale()
"""All 16 bits, and floats of 0 to 1."""


def peak_of_reals(values: NDArray[np.floating]) -> Peak:
    """The largest finite value."""
    finite = values[np.isfinite(values)]
    return Peak(real=float(finite.max(initial=0)))


def _integer_white(peak: int) -> int:
    bits = next((depth for depth in DEPTHS if peak < 2**depth), int(peak).bit_length())
    return 2**bits - 1


def _real_white(peak: float) -> float:
    return next((white for white in REAL_WHITES if peak <= OVERSHOOT * white), peak)
