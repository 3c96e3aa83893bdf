"""A cache of several chunks a file is pushed, pulled and verified as any other."""

from pathlib import Path

import pytest
import toy_caches as toys
from fault_proxy import in_turn

from cache import CacheCorrupt, FeatureCache, catalog
from cache import sharing as remote
from cache.errors import CacheStorage
from cache.exchange.exporting import export
from cache.format import layout
from cache.sharing import bucket, offers, pull
from cache.sharing import push as share
from cache.verify import verify

LARGE = toys.identity({"train": 9000}, views=0, width=512)
"""9 MB, which is one shard of three chunks: it goes in parts."""


@pytest.fixture(autouse=True)
def _three_chunks_a_file(monkeypatch):
    monkeypatch.setattr(layout, "MANY_CHUNKS", 2)
    monkeypatch.setattr(layout, "CHUNKS_PER_SHARD", 3)


@pytest.fixture(params=["avgpool", "relu"])
def sharded(request, tmp_path) -> Path:
    """7 chunks a view of train in 3 files, 3 of test in one; those of relu are compressed and differ in length."""
    path = toys.make(tmp_path / "mine", toys.identity(layer=request.param))
    assert FeatureCache.open(path).manifest.chunks_per_shard == 3
    assert ('"zstd"' in (path / layout.array_file("train", "clean")).read_text()) == (request.param == "relu")
    return path


def pulled(place: str, key: str, stores: Path) -> Path:
    return Path(pull.pull(pull.find(remote.at(place), key), stores).path)


def is_whole(path: Path, original: Path) -> None:
    assert toys.snapshot(path) == toys.snapshot(original)
    assert verify(path).findings == ()


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_what_is_pushed_is_pulled(kind, request, sharded, tmp_path):
    place = request.getfixturevalue("s3").url if kind == "bucket" else str(tmp_path / "team")
    assert share.push(sharded, remote.at(place)).state == "pushed"
    is_whole(pulled(place, sharded.name, tmp_path / "yours"), sharded)


def test_a_push_and_a_pull_that_stop_at_a_shard_go_on(s3, sharded, tmp_path):
    shard = layout.chunk_file("train", "view-01", 1)
    s3.proxy.fault = lambda method, path: "deny" if path.endswith(shard) else ""
    with pytest.raises(CacheStorage, match="not allowed to write"):
        share.push(sharded, remote.at(s3.url))
    assert offers.ls(remote.at(s3.url)) == []
    s3.proxy.fault = lambda method, path: ""
    assert share.push(sharded, remote.at(s3.url)).state == "pushed"
    s3.proxy.fault = lambda method, path: "deny" if path.endswith(shard) else ""
    with pytest.raises(CacheStorage, match="not allowed to read"):
        pulled(s3.url, sharded.name, tmp_path / "yours")
    assert [one.state for one in catalog.ls(tmp_path / "yours")] == ["incomplete"]
    s3.proxy.fault = lambda method, path: ""
    is_whole(pulled(s3.url, sharded.name, tmp_path / "yours"), sharded)


def test_a_shard_in_parts_over_a_line_that_breaks(s3, tmp_path):
    path = toys.make(tmp_path / "mine", LARGE, chunk=3000)
    assert [file.stat().st_size > bucket.PIECE for file in path.rglob("c/*/0")] == [True]
    s3.proxy.fault = in_turn("drop", "", "")
    assert share.push(path, remote.at(s3.url)).state == "pushed"
    assert s3.proxy.count("PUT", "partNumber=2") >= 1
    s3.proxy.fault = in_turn("cut", "drop", "")
    is_whole(pulled(s3.url, path.name, tmp_path / "yours"), path)


def test_a_damaged_shard_is_neither_pushed_nor_exported(s3, sharded, tmp_path):
    file = sharded / layout.chunk_file("train", "clean", 1)
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    with pytest.raises(CacheCorrupt, match=r"c/1/0: wanted sha256 \w{64}, found \w{64}"):
        share.push(sharded, remote.at(s3.url))
    assert offers.ls(remote.at(s3.url)) == []
    with pytest.raises(CacheCorrupt, match=r"c/1/0 \(rows \d+ to \d+\): its checksum is not"):
        export(FeatureCache.open(sharded), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
