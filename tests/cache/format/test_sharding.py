"""Large caches hold several chunks a file: Zarr v3 shards. Forced here at small numbers."""

import json

import google_crc32c
import numpy as np
import pytest
import toy_caches as toys
import zarr

from cache import CacheCorrupt, CacheWriter, FeatureCache, Provenance, SplitIdentity
from cache.format import layout
from cache.verify import verify

ARRAY = "features.zarr/train/clean"
CHUNK = 8 * toys.WIDTH * 2 + layout.CRC_BYTES
INDEX = 3 * 16 + layout.CRC_BYTES


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """A toy cache of 3 chunks a file: train has 7 chunks a view in 3 files, test 3 in one."""
    monkeypatch.setattr(layout, "MANY_CHUNKS", 3)
    monkeypatch.setattr(layout, "CHUNKS_PER_SHARD", 3)
    return toys.make(tmp_path / "stores")


def _index(content: bytes) -> np.ndarray:
    return np.frombuffer(content[-INDEX : -layout.CRC_BYTES], "<u8").reshape(3, 2).copy()


def _with_index(content: bytes, index: np.ndarray) -> bytes:
    raw = index.astype("<u8").tobytes()
    return content[:-INDEX] + raw + google_crc32c.value(raw).to_bytes(4, "little")


def test_a_round_trip_is_exact_and_plain_zarr_reads_it(sharded):
    cache = FeatureCache.open(sharded)
    assert cache.manifest.chunks_per_shard == 3
    assert len(list((sharded / "features.zarr").rglob("c/*/0"))) == 3 + 3 + 1
    group = zarr.open_group(sharded / "features.zarr", mode="r")
    for split, view in (("train", "clean"), ("train", "view-01"), ("test", "clean")):
        wanted = toys.expected(toys.identity(), split, view)
        np.testing.assert_array_equal(cache.features(split, view), wanted)
        np.testing.assert_array_equal(group[f"{split}/{view}"][:], wanted)
        for start, stop in ((0, 0), (0, 1), (7, 9), (13, 20), (19, 20)):
            np.testing.assert_array_equal(cache.slice(split, view, start, stop), wanted[start:stop])
    np.testing.assert_array_equal(
        cache.slice("train", "clean", 20, 49), toys.expected(toys.identity(), "train", "clean")[20:49]
    )
    assert verify(sharded).findings == ()


def test_zarr_writes_the_same_bytes(sharded, tmp_path):
    document = json.loads((sharded / ARRAY / "zarr.json").read_text())
    (tmp_path / "again").mkdir()
    (tmp_path / "again/zarr.json").write_text(json.dumps(document))
    array = zarr.open_array(tmp_path / "again", mode="r+")
    array[:48] = toys.expected(toys.identity(), "train", "clean")[:48]
    for index in (0, 1):  # whole shards; of the last one zarr also stores the chunks that hold no row
        file = f"c/{index}/0"
        assert (tmp_path / "again" / file).read_bytes() == (sharded / ARRAY / file).read_bytes()


def test_shards_do_not_change_the_key_and_begin_above_ten_thousand_chunks():
    def found(rows: int) -> int:
        split = SplitIdentity(rows=rows, samples=toys.digest("s"), content=toys.digest("c"), views=1)
        return layout.chunks_per_shard(toys.identity(splits={"train": split}), 100)

    assert (found(5_000 * 100), found(5_000 * 100 + 1)) == (1, layout.CHUNKS_PER_SHARD)


def test_an_interrupted_extraction_keeps_its_shards(sharded, tmp_path, monkeypatch):
    with CacheWriter(tmp_path / "parts", toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer, 4) == 4
    monkeypatch.setattr(layout, "MANY_CHUNKS", 10_000)
    with CacheWriter(tmp_path / "parts", toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer) == 7 - 4
        assert toys.snapshot(writer.publish()) == toys.snapshot(sharded)


def test_a_flip_of_any_bit_stops_the_read_and_verify_names_the_rows(sharded):
    file = sharded / ARRAY / "c/1/0"
    content = file.read_bytes()
    assert len(content) == 3 * CHUNK + INDEX
    cache = FeatureCache.open(sharded)
    for position in range(0, len(content), 3):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(
            CacheCorrupt, match=r"c/1/0 \(rows \d+ to \d+\): .*; `cache rm` it, then pull, extract or import it again"
        ):
            cache.features("train")
    assert [str(finding) for finding in verify(sharded).findings] == [
        f"{ARRAY}/c/1/0 (train/clean, rows 24 to 47): its sha256 is not the manifest's"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({(1, 0): 1 << 60}, "wanted a chunk inside its 448 bytes, found one from 1152921504606846976"),
        ({(1, 1): 1 << 60}, "wanted a chunk inside its 448 bytes, found one from 132"),
        ({(1, 1): 4}, "wanted a chunk inside its 448 bytes, found one from 132 to 136"),
        ({(1, 1): CHUNK - 1}, "its checksum is not the manifest's"),
        ({(1, 0): layout.NO_CHUNK, (1, 1): layout.NO_CHUNK}, "wanted 3 chunks in its index, found others"),
        ({(1, 0): 0, (0, 0): CHUNK}, "its checksum is not the manifest's: it is damaged or holds other rows"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(sharded, change, message):
    file = sharded / ARRAY / "c/0/0"
    content = file.read_bytes()
    index = _index(content)
    for place, value in change.items():
        index[place] = value
    file.write_bytes(_with_index(content, index))
    with pytest.raises(CacheCorrupt, match=f"c/0/0 .*{message}"):
        FeatureCache.open(sharded).features("train")


def test_compressed_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "MANY_CHUNKS", 3)
    found = toys.identity({"train": 450}, views=0)
    sparse = np.maximum(toys.expected(found, "train", "clean").astype(np.float32) - 1, 0)
    with CacheWriter(tmp_path, found, Provenance(name="relu"), rows_per_chunk=100) as writer:
        writer.write_rows("train", toys.frame("train", 450))
        for shard in writer.pending("train", "clean"):
            writer.write(shard, sparse[shard.start : shard.stop])
        path = writer.publish()
    assert (path / ARRAY / "c/0/0").stat().st_size < sparse.size * 2 / 1.3
    np.testing.assert_array_equal(FeatureCache.open(path).features("train"), sparse.astype(np.float16))
    np.testing.assert_array_equal(zarr.open_array(path / ARRAY, mode="r")[:], sparse.astype(np.float16))
