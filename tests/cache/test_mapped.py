"""A local copy is made once, however many ask for it."""

import threading

import numpy as np
import toy_caches as toys

from cache import FeatureCache
from cache.mapped import mapped


def test_of_two_that_want_a_copy_one_makes_it_and_the_other_waits(cache_path):
    """The second asks while the first is under way: at its first block."""
    cache, stores = FeatureCache.open(cache_path), cache_path.parent
    blocks: list[int] = []
    second: list[np.ndarray] = []
    other = threading.Thread(target=lambda: second.append(mapped(cache, "train", 2, stores, blocks.append)))

    def advance(rows: int) -> None:
        blocks.append(rows)
        if len(blocks) == 1:
            other.start()
            other.join(0.3)
            assert not second

    first = mapped(cache, "train", 2, stores, advance)
    other.join()
    assert sum(blocks) == 2 * 50
    wanted = np.stack([toys.expected(toys.identity(), "train", view) for view in ("clean", "view-01")])
    for copy in (first, *second):
        np.testing.assert_array_equal(copy, wanted)
    assert len(second) == 1
