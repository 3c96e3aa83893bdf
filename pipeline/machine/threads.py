"""The number of threads, where the last bits of a result depend on it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NARROW = 128
"""Channels of a feature up to which one thread is as good as several: a step is too short to be shared."""
SHORT_STEP = 1 << 17
"""Numbers of a step's largest tensor up to which one thread trains as fast: five seeds of 128 rows and 100 classes took 54 s of
processor time for 33 methods, and 69 s with two threads, the rest being spent on waiting for each other."""


@contextmanager
def same_bits(width: int) -> Iterator[None]:
    """Within, features of `width` channels are computed by one thread where they are narrow.

    Batch normalisation over rows adds up in as many parts as there are threads, so the last bits of a generator change
    with their number. Wider features keep all threads, as one would be too slow: there, equal bits want an equal number.
    """
    with _one_thread(width <= NARROW):
        yield


@contextmanager
def shared_where_long(numbers: int) -> Iterator[None]:
    """Within, one thread trains where the largest tensor of a step has at most SHORT_STEP numbers, else as many as before."""
    with _one_thread(numbers <= SHORT_STEP):
        yield


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1 if wanted else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
