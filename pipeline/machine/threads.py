"""The number of threads, where the last bits of a result depend on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NARROW = 128
"""Channels of a feature up to which one thread is as good as several: a step is too short to be shared."""


@contextmanager
def same_bits(width: int) -> Iterator[None]:
    """Within, features of `width` channels are computed by one thread where they are narrow.

    Batch normalisation over rows adds up in as many parts as there are threads, so the last bits of a generator change
    with their number. Wider features keep all threads, as one would be too slow: there, equal bits want an equal number.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if width <= NARROW else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
