"""Sending or fetching several files at a time."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from cache.manifest import Entry

WORKERS = 8
"""How many objects are sent or fetched at a time."""
ATTEMPTS = 4
"""How often an object is asked for. Copies with a wrong digest count, and answers in a row that bring no further byte."""
Advance = Callable[[int], None]
"""Called with a number of bytes that are done."""
Note = Callable[[str], None]
"""Called with a line for the user."""


def concurrently(work: Callable[[Entry, threading.Event], None], entries: Iterable[Entry], advance: Advance) -> None:
    """Call `work` for each entry, WORKERS at a time. The first error, or an interrupt, sets the event, and `work` should end."""
    halted = threading.Event()
    pool = ThreadPoolExecutor(WORKERS)
    futures: dict[Future[None], Entry] = {}
    future = None
    try:
        futures |= {pool.submit(work, entry, halted): entry for entry in entries}
        for future in as_completed(futures):
            future.result()
            advance(futures[future].size)
    finally:
        halted.set()
        pool.shutdown(wait=True, cancel_futures=True)
        # The traceback of an error keeps this frame alive, and with it a cache that would stay in use.
        futures.clear()
        del future
