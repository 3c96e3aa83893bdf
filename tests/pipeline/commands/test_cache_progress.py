"""A cache in a bucket, as if it were here."""

import pytest
from conftest import write_cache

from cache import CacheInvalid
from pipeline.commands import cache_progress as sharing


def test_a_shared_cache_gives_the_same_figures_to_the_last_digit(s3, coattail, tmp_path):
    cache = write_cache(tmp_path / "stores", settings={"retrain": {"epochs": 2}})
    done = coattail("cache", "push", s3.url, "--json")
    assert (done.code, done.json[0]["state"]) == (0, "pushed"), done.err
    arguments = ("retrain", "--augmentation", "none", "--seeds", "2", "--json", "--cache")
    mine = coattail(*arguments, cache.key, COATTAIL_RUNS="runs-mine")
    yours = {"COATTAIL_STORES": "yours", "COATTAIL_RUNS": "runs-yours"}
    theirs = coattail(*arguments, f"{s3.url}/{cache.key}", **yours)
    assert theirs.code == 0, theirs.err
    assert f"{s3.url}/{cache.key}: pulled at {tmp_path}/yours/{cache.key}" in theirs.err

    def figures(done):
        return {name: value for name, value in done.json.items() if name not in ("run", "seconds")}

    assert figures(mine) == figures(theirs)
    s3.proxy.seen.clear()
    assert sharing.here(f"{s3.url}/{cache.key}", tmp_path / "yours") == tmp_path / "yours" / cache.key
    assert s3.proxy.seen == []
    with pytest.raises(
        CacheInvalid, match=r"s3://team: wanted the address of one cache, such as s3://BUCKET/FOLDER/KEY"
    ):
        sharing.here("s3://team", tmp_path)
