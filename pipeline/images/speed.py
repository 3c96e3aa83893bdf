"""How long an image takes to decode on this machine."""

import time
from contextlib import suppress

from pipeline.images.decoding import Undecodable
from pipeline.images.looking import look_at
from pipeline.images.pixels import Images

DECODED = 20
"""Images whose decoding is timed."""


def decoding_seconds(images: Images) -> float:
    """Seconds that an image takes to decode, over a few of these. What is wrong with one is said where it is used."""
    items = images.sample(DECODED)
    started = time.perf_counter()
    for item in items:
        with suppress(Undecodable):
            look_at(item)
    return (time.perf_counter() - started) / max(len(items), 1)
