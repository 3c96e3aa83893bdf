"""How long an image takes to decode on this machine."""

import time

from pipeline.images.looking import look_at
from pipeline.images.pixels import Images

DECODED = 20
"""Images whose decoding is timed."""


def decoding_seconds(images: Images) -> float:
    """Seconds that an image takes to decode, over a few of these."""
    items = images.sample(DECODED)
    started = time.perf_counter()
    for item in items:
        look_at(item)
    return (time.perf_counter() - started) / max(len(items), 1)
