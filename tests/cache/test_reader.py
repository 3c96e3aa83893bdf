"""What is written is read back, by us and by plain zarr; what is damaged is not read at all."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import google_crc32c
import numpy as np
import polars as pl
import pytest
import toy_caches as toys
import zarr
from numcodecs import Zstd

from cache import CacheCorrupt, CacheInvalid, CacheNotFound, CacheWriter, FeatureCache, Provenance, catalog
from cache import manifest as manifests
from cache.format import decode as reading
from cache.format import description, layout
from cache.format.decode import zstd_content_size


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("rows", [1, 7, 8, 9, 50])
def test_a_round_trip_is_exact(tmp_path, dtype, rows):
    found = toys.identity({"train": rows, "test": 3}, dtype=dtype)
    cache = FeatureCache.open(toys.make(tmp_path, found))
    for split in cache.splits:
        for view in cache.views(split):
            features = cache.features(split, view)
            assert features.dtype == dtype
            np.testing.assert_array_equal(features, toys.expected(found, split, view))
    assert cache.rows("train").equals(toys.frame("train", rows))
    assert cache.labels("train").dtype == np.int64
    np.testing.assert_array_equal(cache.counts(), np.bincount(np.arange(rows) % 3, minlength=3))
    np.testing.assert_array_equal(cache.classifier()["bias"], [0, 1, 2])
    assert cache.manifest.size == sum(len(v) for k, v in toys.snapshot(cache.path).items() if k != "manifest.json")


def test_plain_zarr_reads_it_and_would_describe_it_alike(cache_path):
    group = zarr.open_group(cache_path / "features.zarr", mode="r")
    np.testing.assert_array_equal(group["train/view-01"][:], toys.expected(toys.identity(), "train", "view-01"))
    array = group["train/clean"]
    assert array.metadata.dimension_names == ("row", "feature")
    assert np.isnan(array.fill_value)
    assert [type(codec).__name__ for codec in array.metadata.codecs] == ["BytesCodec", "Crc32cCodec"]


def test_zstd_is_used_where_it_pays_and_only_there(tmp_path):
    found = toys.identity({"train": 4000}, views=0)
    with CacheWriter(tmp_path, found, Provenance(name="relu"), rows_per_chunk=1000) as writer:
        writer.write_rows("train", toys.frame("train", 4000))
        sparse = np.maximum(toys.expected(found, "train", "clean").astype(np.float32) - 1, 0)
        for shard in writer.pending("train", "clean"):
            # The last shard alone would not be worth it: the first one decides for the array.
            writer.write(shard, sparse[shard.start : shard.stop] if shard.index < 3 else np.full((1000, 8), 0.1))
        path = writer.publish()
    document = json.loads((path / "features.zarr/train/clean/zarr.json").read_text())
    assert [codec["name"] for codec in document["codecs"]] == ["bytes", "zstd", "crc32c"]
    np.testing.assert_array_equal(FeatureCache.open(path).features("train")[:3000], sparse[:3000].astype(np.float16))
    assert (path / "features.zarr/train/clean/c/0/0").stat().st_size < 16_000 / 1.3


def test_slices_read_part(cache_path):
    cache = FeatureCache.open(cache_path)
    whole = cache.features("train")
    for start, stop in ((0, 0), (0, 1), (7, 9), (13, 50), (49, 50)):
        np.testing.assert_array_equal(cache.slice("train", "clean", start, stop), whole[start:stop])


def test_a_flipped_bit_in_any_chunk_stops_the_read(cache_path):
    for file in sorted((cache_path / "features.zarr/train/clean/c").glob("*/0")):
        content = file.read_bytes()
        file.write_bytes(content[:5] + bytes([content[5] ^ 4]) + content[6:])
        with pytest.raises(
            CacheCorrupt,
            match=r"/0 \(rows \d+ to \d+\): its checksum is not that of its bytes; `cache rm` it, then pull, extract or import it again",
        ):
            FeatureCache.open(cache_path).features("train")
        file.write_bytes(content)
    FeatureCache.open(cache_path).features("train")


def test_a_missing_chunk_stops_open_and_an_already_open_read(cache_path):
    cache = FeatureCache.open(cache_path)
    file = cache_path / "features.zarr/train/clean/c/3/0"
    file.unlink()
    with pytest.raises(CacheCorrupt, match=r"c/3/0: missing; `cache rm` it, then pull, extract or import it again"):
        FeatureCache.open(cache_path)
    with pytest.raises(CacheCorrupt, match=r"c/3/0: missing"):
        cache.features("train")


@pytest.mark.parametrize("file", ["rows/train.parquet", "classifier.safetensors"])
def test_a_flip_in_a_small_file_stops_the_read(cache_path, file):
    content = bytearray((cache_path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (cache_path / file).write_bytes(bytes(content))
    cache = FeatureCache.open(cache_path)
    with pytest.raises(CacheCorrupt, match="its sha256 is not the manifest's"):
        cache.labels("train") if "rows" in file else cache.classifier()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_type": "float64"}, "data_type: wanted .*, found .*float64"),
        ({"shape": [10**12, 8]}, "shape: wanted .*, found"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codecs: wanted .*, found .*pickle"),
        ({"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [10**9, 8]}}}, "chunk_grid: wanted"),
        ({"fill_value": 0}, "fill_value: wanted"),
        ({"storage_transformers": [{"name": "x"}]}, "storage_transformers: wanted"),
        ({"attributes": {"a": 1}}, "attributes: wanted"),
        ({"extension": {"must_understand": False}}, "extension: wanted null"),
    ],
)
def test_an_array_of_another_kind_is_refused_on_open(cache_path, change, message):
    """Size kept by padding, so that the inventory does not see it first."""
    file = cache_path / "features.zarr/train/clean/zarr.json"
    size = file.stat().st_size
    raw = json.dumps(json.loads(file.read_text()) | change).encode()
    file.write_bytes(raw + b" " * (size - len(raw)))
    assert file.stat().st_size == size
    with pytest.raises(CacheInvalid, match=message):
        FeatureCache.open(cache_path)


@pytest.mark.parametrize("where", ["rows", "features.zarr/train", "features.zarr/train/clean/c/0/0", "manifest.json"])
def test_a_symbolic_link_is_refused(cache_path, tmp_path, where):
    moved = tmp_path / "elsewhere"
    (cache_path / where).rename(moved)
    (cache_path / where).symlink_to(moved)
    with pytest.raises((CacheInvalid, CacheNotFound), match=r"a symbolic link|no cache there"):
        FeatureCache.open(cache_path)


def test_wrong_names_are_answered_with_the_right_ones(cache_path):
    cache = FeatureCache.open(cache_path)
    with pytest.raises(CacheInvalid, match=r"no split 'val', found train, test$"):
        cache.rows("val")
    with pytest.raises(CacheInvalid, match=r"split test: no view 'view-01', found clean$"):
        cache.features("test", "view-01")


def test_resolve(cache_path, tmp_path):
    stores, key = cache_path.parent, cache_path.name
    other = toys.make(stores, toys.identity(views_seed=5))
    assert (
        catalog.resolve(stores, key) == catalog.resolve(stores, key[:4]) == catalog.resolve(tmp_path, str(cache_path))
    )
    assert catalog.resolve(tmp_path, f"{stores}/{key[:12]}") == cache_path
    assert catalog.published(stores, key) == cache_path
    assert catalog.published(stores, "0" * 64) is None
    with pytest.raises(
        CacheNotFound, match=r"cache zzzz: neither a cache's folder nor the start of a key in .*; found "
    ):
        catalog.resolve(stores, "zzzz")
    with pytest.raises(
        CacheNotFound, match=r"cache zzzz: neither a cache's folder nor the start of a key in /.*/elsewhere; found none"
    ):
        catalog.resolve(stores, "elsewhere/zzzz")
    with pytest.raises(CacheNotFound, match="neither"):
        catalog.resolve(stores, key[:3])
    (stores / f"{key[:8]}x").mkdir()
    (stores / f"{key[:8]}x/manifest.json").write_bytes(b"")
    with pytest.raises(CacheInvalid, match=r"2 caches in .* start so \(.*, .*\); give more digits"):
        catalog.resolve(stores, key[:8])
    assert {path for path, _ in catalog.manifests(stores)} == {cache_path, other}
    assert [one.state for one in catalog.ls(stores)] == ["published", "published", "foreign"]


def test_modes_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        path = toys.make(tmp_path / "stores")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.rglob("*") if file.is_file()}
    assert modes == {0o640}
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_ls_is_quick_and_imports_nothing_heavy(cache_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom cache import catalog\n"
        f"assert len(catalog.ls(Path({str(cache_path.parent)!r}))) == 1\n"
        "print(sorted({'torch', 'zarr', 'polars', 'obstore', 'numpy'} & set(sys.modules)))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_keep_what_the_source_knows(cache_path):
    assert FeatureCache.open(cache_path).rows("test").schema["path"] == pl.String


def test_the_size_that_a_zstd_frame_declares():
    for size in (1, 100, 255, 256, 300, 65_791, 65_792, 70_000, 9_000_000):
        for content in (np.zeros(size, np.uint8).tobytes(), np.random.default_rng(0).bytes(size)):
            assert zstd_content_size(Zstd(level=3).encode(content)[:18].ljust(18, b"\0")) == size
    assert zstd_content_size(b"not zstd, at all, no") is None


def test_chunks_that_changed_places_stop_a_plain_read(cache_path):
    one, two = (cache_path / f"features.zarr/train/clean/c/{index}/0" for index in (1, 4))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    cache = FeatureCache.open(cache_path)
    with pytest.raises(CacheCorrupt) as caught:
        cache.features("train")
    assert str(caught.value) == (
        f"{one} (rows 8 to 15): its checksum is not the manifest's: it is damaged or holds other rows; "
        "`cache rm` it, then pull, extract or import it again"
    )
    np.testing.assert_array_equal(
        cache.slice("train", "clean", 0, 8), toys.expected(toys.identity(), "train", "clean")[:8]
    )


def test_a_manifest_without_chunk_checksums_is_read_as_before(cache_path):
    file = cache_path / "manifest.json"
    raw = json.loads(file.read_bytes())
    for entry in raw["inventory"]:
        del entry["crc32c"]
    raw["checksum"] = manifests._checksum(raw)
    file.write_bytes(manifests._text(raw))
    np.testing.assert_array_equal(
        FeatureCache.open(cache_path).features("train"), toys.expected(toys.identity(), "train", "clean")
    )


def test_a_compressed_chunk_that_declares_more_than_it_should_is_not_decoded(tmp_path):
    path = toys.make(tmp_path, toys.identity({"train": 16}, views=0))
    document = description.array_document(16, (toys.WIDTH,), 8, "float16", compress=True)
    file = layout.array_file("train", "clean")
    out = np.empty((8, toys.WIDTH), np.float16)
    for size, message in ((1 << 24, "wanted a chunk of 128 bytes, found 16777216"), (128, None)):
        frame = Zstd(level=3).encode(np.ones(size, np.uint8))
        (path / layout.chunk_file("train", "clean", 0)).write_bytes(
            frame + google_crc32c.value(frame).to_bytes(4, "little")
        )
        if message is None:
            reading.read(path, file, document, 0, out, lambda index: "")
            assert (out.view(np.uint8) == 1).all()
        else:
            with pytest.raises(CacheCorrupt, match=message):
                reading.read(path, file, document, 0, out, lambda index: "")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_missing_or_not_finite_is_named(tmp_path, dtype, value):
    path = toys.make(tmp_path, toys.identity({"train": 16}, views=0, dtype=dtype))
    document = description.array_document(16, (toys.WIDTH,), 8, dtype, compress=False)
    bad = np.full((8, toys.WIDTH), np.finfo(dtype).max, dtype)
    bad[3, 5] = value
    file, chunk = layout.array_file("train", "clean"), path / layout.chunk_file("train", "clean", 1)
    chunk.write_bytes(bad.tobytes() + google_crc32c.value(bad.tobytes()).to_bytes(4, "little"))
    wanted = (
        r"c/1/0 \(rows 8 to 15\): the feature of row 11 is missing or not finite; `cache rm` it, then pull, extract"
    )
    with pytest.raises(CacheCorrupt, match=wanted):
        reading.read(path, file, document, 0, np.empty((16, toys.WIDTH), dtype), lambda index: "")
    bad[3, 5] = -np.finfo(dtype).max
    chunk.write_bytes(bad.tobytes() + google_crc32c.value(bad.tobytes()).to_bytes(4, "little"))
    reading.read(path, file, document, 0, np.empty((16, toys.WIDTH), dtype), lambda index: "")


def test_a_classifier_that_is_all_description_is_not_parsed(tmp_path, monkeypatch):
    """Where numbers may take much, their description still takes little."""
    found = toys.identity({"train": 4}, views=0, width=1 << 14)
    path = toys.make(tmp_path, found)
    content = (1 << 17).to_bytes(8, "little") + b"{}".ljust(1 << 17)
    (path / "classifier.safetensors").write_bytes(content)
    monkeypatch.setattr(FeatureCache, "_proved", lambda self, file, limit: content)
    with pytest.raises(CacheCorrupt) as caught:
        FeatureCache(path, catalog.read_manifest(path)).classifier()
    assert str(caught.value) == (
        f"{path}/classifier.safetensors: wanted a header of at most 65536 bytes, found 131072; "
        "`cache rm` it, then pull, extract or import it again"
    )
