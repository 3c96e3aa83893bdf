"""Damage is named with its rows; differences with their fields; a cache in use stays."""

import pytest
import toy_caches as toys

from cache import CacheNotFound, FeatureCache, catalog
from cache.errors import CacheInUse
from cache.explain import explain
from cache.prune import prune
from cache.remove import rm
from cache.verify import verify


def test_a_whole_cache_is_sound(cache_path):
    for options in ({}, {"mode": "quick"}, {"subset": (1, 5)}):
        assert verify(cache_path, **options).findings == ()


def test_every_file_that_is_flipped_truncated_or_deleted_is_named(cache_path):
    for name in toys.snapshot(cache_path):
        file = cache_path / name
        content = file.read_bytes()
        middle = len(content) // 2
        for changed in (content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :], content[:-1]):
            file.write_bytes(changed)
            assert name in {finding.file for finding in verify(cache_path).findings}
        file.write_bytes(content)
        if name != "manifest.json":
            file.unlink()
            assert str(verify(cache_path, "quick").findings[0]).endswith(": missing")
            file.write_bytes(content)


def test_a_chunk_is_named_with_its_rows_also_where_two_are_swapped(cache_path):
    one, two = (cache_path / f"features.zarr/train/clean/c/{index}/0" for index in (1, 6))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert [str(finding) for finding in verify(cache_path).findings] == [
        "features.zarr/train/clean/c/1/0 (train/clean, rows 8 to 15): its sha256 is not the manifest's",
        "features.zarr/train/clean/c/6/0 (train/clean, rows 48 to 49): its sha256 is not the manifest's",
    ]


def test_strangers_are_named(cache_path):
    (cache_path / "rows/extra.pkl").write_bytes(b"x")
    (cache_path / "empty").mkdir()
    assert [finding.file for finding in verify(cache_path, "quick").findings] == ["empty", "rows/extra.pkl"]


def test_subsets_together_see_every_chunk(cache_path):
    file = cache_path / "features.zarr/train/view-01/c/4/0"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    assert sum(not verify(cache_path, subset=(part, 5)).sound for part in range(1, 6)) == 1


def test_explain_names_the_fields(tmp_path):
    one = catalog.read_manifest(toys.make(tmp_path))
    other = catalog.read_manifest(toys.make(tmp_path, toys.identity(transform={"size": 64}), author="bob"))
    fields = [difference.field for difference in explain(one, other)]
    assert fields == [
        "identity.transform.size",
        "identity.transform.interpolation",
        "identity.transform.mean",
        "provenance.author",
    ]
    assert explain(one, one.identity) == ()


def test_a_cache_in_use_is_not_removed(cache_path):
    cache = FeatureCache.open(cache_path)
    with pytest.raises(CacheInUse, match="in use; wait until whoever reads it is done, then try again"):
        rm(cache_path)
    del cache
    size = catalog.describe(cache_path).bytes
    assert rm(cache_path).bytes == size
    assert not cache_path.exists()
    with pytest.raises(CacheNotFound):
        rm(cache_path)


def test_prune_lists_and_deletes_on_yes_only(cache_path):
    stores = cache_path.parent
    later = cache_path.stat().st_mtime + 100
    assert prune(stores, now=later) == []
    assert [one.key for one in prune(stores, older_than=50, now=later)] == [cache_path.name]
    assert prune(stores, older_than=50, keep=[cache_path.name], yes=True, now=later) == []
    assert cache_path.exists()
    cache = FeatureCache.open(cache_path)
    assert "in use" in prune(stores, older_than=50, yes=True, now=later)[0].kept
    assert cache.features("test").shape == (20, 8)
    del cache
    assert prune(stores, older_than=50, yes=True, now=later)[0].kept == ""
    assert not cache_path.exists()
