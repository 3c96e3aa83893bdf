"""No head is made with the test split: another test split leaves every classifier as it is, to the bit."""

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline.classifiers import train_classifier
from pipeline.settings.load import load
from pipeline.settings.register import HEADS


class OtherTest:
    """A cache with another one's test split."""

    def __init__(self, cache, other):
        self._cache, self._other = cache, other

    def __getattr__(self, name):
        return getattr(self._cache, name)

    def features(self, split, *rest, **named):
        return (self._other if split == "test" else self._cache).features(split, *rest, **named)

    def labels(self, split):
        return (self._other if split == "test" else self._cache).labels(split)


@pytest.fixture(scope="module", params=[False, True], ids=["no val split", "val split"])
def caches(request, tmp_path_factory):
    stores = tmp_path_factory.mktemp("stores")
    cache = write_cache(stores, Blobs(counts=(60, 40, 20, 8)), val=request.param)
    other = write_cache(stores, Blobs(counts=(60, 40, 20, 8), seed=1, test_rows=7), name="other")
    return cache, OtherTest(cache, other)


@pytest.mark.parametrize("head", HEADS)
def test_the_test_split_does_not_matter(head, caches):
    overrides = ("retrain.augmentation=none", "retrain.steps=8", "retrain.hidden=8", f"retrain.head={head}")
    settings = load(overrides=overrides).settings
    first, second = (train_classifier(settings, cache, [0], None).tensors() for cache in caches)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name
