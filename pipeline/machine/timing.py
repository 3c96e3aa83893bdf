"""How long a piece of work takes on this machine."""

import time
from collections.abc import Callable
from typing import Any

import torch


def seconds_each(work: Callable[[], Any], calls: int, limit: float) -> float:
    """Seconds of the quickest of several calls. The first calls warm up, and other processes can only slow a call down.

    At most `calls` are made, and after `limit` seconds no more, but two where `calls` allows them.
    """
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < calls and (len(times) < 2 or time.perf_counter() - begun <= limit):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return max(min(times), 1e-9)
