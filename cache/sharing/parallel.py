"""Send or fetch several files at a time."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from cache.manifest import Entry

WORKERS = 8
"""Objects under way at a time."""
ATTEMPTS = 4
"""How often an object is asked for. Counted are copies that were wrong, and answers in a row that brought nothing new."""
Advance = Callable[[int], None]
Note = Callable[[str], None]


def concurrently(work: Callable[[Entry, threading.Event], None], entries: Iterable[Entry], advance: Advance) -> None:
    """Work on WORKERS entries at a time. The first error, or an interrupt, sets the event that `work` watches."""
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
        # The error's traceback holds this frame, and what its callers hold: a cache that would stay in use.
        futures.clear()
        del future
