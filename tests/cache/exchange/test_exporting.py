"""Exports are read by the formats' own libraries, and an import of an export is the cache again, to the bit."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy_caches as toys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from cache import CacheInvalid, FeatureCache, Provenance
from cache.errors import CacheStorage
from cache.exchange.contents import read_dataset
from cache.exchange.exporting import export
from cache.exchange.importing import digest, write
from cache.exchange.request import Request
from cache.exchange.texts import comparable
from cache.format import layout
from cache.verify import verify
from pipeline.commands import cache_text as tables

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=5).filter(comparable)
FORMATS = ["a.npz", "a.safetensors", "a.parquet", "a"]


def imported(stores: Path, path: Path) -> FeatureCache:
    found = digest(read_dataset(Request((("", path),))))
    return FeatureCache.open(write(stores, found, Provenance(name="again")))


def same_rows(one: FeatureCache, other: FeatureCache) -> None:
    assert (sorted(one.splits), one.classes) == (sorted(other.splits), other.classes)
    for split in one.splits:
        assert one.views(split) == other.views(split)
        for view in one.views(split):
            assert one.features(split, view).dtype == other.features(split, view).dtype
            assert one.features(split, view).tobytes() == other.features(split, view).tobytes()
        columns = ["row", "sample_id", "label"]
        assert one.rows(split).select(columns).equals(other.rows(split).select(columns))


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", FORMATS)
def test_an_import_of_an_export_is_the_cache_again(tmp_path, name, dtype):
    extracted = FeatureCache.open(toys.make(tmp_path / "stores", toys.identity(dtype=dtype)))
    done = export(extracted, tmp_path / name)
    again = imported(tmp_path / "again", tmp_path / name)
    assert again.manifest.identity.kind == "imported"
    same_rows(extracted, again)
    assert done.rows == {"train": 50, "test": 20}
    assert done.views == ("clean", "view-01")
    assert done.classifier == (name != "a.parquet") == (again.classifier() is not None)
    if done.classifier:
        for tensor, values in extracted.classifier().items():
            np.testing.assert_array_equal(again.classifier()[tensor], values)
    # An import's key is its content's: whatever it is exported to and imported from, it is the same cache.
    for other in FORMATS:
        if done.classifier and other == "a.parquet":
            continue
        export(again, tmp_path / "second" / other)
        assert imported(tmp_path / "again", tmp_path / "second" / other).key == again.key


@pytest.mark.parametrize("layer", ["avgpool", "relu"])
@pytest.mark.parametrize("name", FORMATS)
def test_an_import_of_an_export_is_the_cache_again_in_shards(tmp_path, monkeypatch, name, layer):
    """Several chunks a file, raw or compressed, on both sides; the key is the content's, whatever the files."""
    monkeypatch.setattr(layout, "MANY_CHUNKS", 2)
    monkeypatch.setattr(layout, "CHUNKS_PER_SHARD", 3)
    extracted = FeatureCache.open(toys.make(tmp_path / "stores", toys.identity(layer=layer)))
    export(extracted, tmp_path / name)
    monkeypatch.setattr(layout, "CHUNK_BYTES", 8 * toys.WIDTH * 2)
    again = imported(tmp_path / "again", tmp_path / name)
    assert extracted.manifest.chunks_per_shard == again.manifest.chunks_per_shard == 3
    assert verify(again.path).findings == ()
    same_rows(extracted, again)
    monkeypatch.setattr(layout, "MANY_CHUNKS", 10_000)
    assert imported(tmp_path / "plain", tmp_path / name).key == again.key


def test_a_format_without_place_for_the_classifier_says_so(cache_path, tmp_path):
    cache = FeatureCache.open(cache_path)
    done = export(cache, tmp_path / "a.parquet")
    assert (done.classifier, done.left_out) == (False, ("classifier",))
    assert tables.exported(done) == (
        f"{tmp_path}/a.parquet ({tables.size(done.bytes)}); without the classifier, for which Parquet has no place; the "
        "other formats have one"
    )
    done = export(cache, tmp_path / "a.npz")
    assert (done.classifier, done.left_out) == (True, ())
    assert tables.exported(done) == f"{tmp_path}/a.npz ({tables.size(done.bytes)})"


def test_other_tools_read_what_is_written(cache_path, tmp_path):
    cache = FeatureCache.open(cache_path)
    features, ids = cache.features("train", "view-01"), cache.rows("train")["sample_id"].to_list()
    for name in FORMATS:
        export(cache, tmp_path / name)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["train/view-01"], features)
        assert found["train/sample_ids"].tolist() == ids
        assert found["classes"].tolist() == ["cat", "dog", "owl"]
    tensors = load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(tensors["train/view-01"], features)
    assert tensors["train/sample_ids"].tobytes().decode().split("\0") == ids
    with safe_open(tmp_path / "a.safetensors", "numpy") as opened:
        assert opened.metadata()["classes"] == '["cat", "dog", "owl"]'
    np.testing.assert_array_equal(np.load(tmp_path / "a/train/view-01.npy"), features)
    frame = pl.read_parquet(tmp_path / "a.parquet").filter(split="train")
    np.testing.assert_array_equal(frame["view-01"].to_numpy(), features)
    assert frame["sample_id"].to_list() == ids
    assert frame["class_name"].to_list()[:4] == ["cat", "dog", "owl", "cat"]


def test_equal_caches_give_equal_bytes(cache_path, tmp_path):
    other = toys.make(tmp_path / "other", chunk=5)
    for name in FORMATS[:3]:
        export(FeatureCache.open(cache_path), tmp_path / f"one-{name}")
        export(FeatureCache.open(other), tmp_path / f"two-{name}")
        if name != "a.parquet":  # its row groups are the cache's chunks
            assert (tmp_path / f"one-{name}").read_bytes() == (tmp_path / f"two-{name}").read_bytes()


@pytest.mark.parametrize("name", FORMATS)
def test_some_splits_and_views(cache_path, tmp_path, name):
    cache, seen = FeatureCache.open(cache_path), []
    done = export(cache, tmp_path / name, ["train"], ["clean"], seen.append)
    assert (done.rows, done.views, sum(seen)) == ({"train": 50}, ("clean",), 50)
    again = imported(tmp_path / "again", tmp_path / name)
    assert (again.splits, again.views("train")) == (["train"], ["clean"])


@pytest.mark.parametrize(
    ("name", "splits", "views", "text"),
    [
        ("a.csv", [], [], "{}: wanted .npz, .safetensors, .parquet or no suffix (a folder), found .csv"),
        ("a.npz", ["val"], [], "cache {key}: no split 'val', found train, test"),
        ("a.npz", [], ["view-02"], "cache {key}: no view 'view-02', found clean, view-01"),
    ],
)
def test_what_there_is_none_of(cache_path, tmp_path, name, splits, views, text):
    with pytest.raises(CacheInvalid) as caught:
        export(FeatureCache.open(cache_path), tmp_path / name, splits, views)
    assert str(caught.value) == text.format(tmp_path / name, key=cache_path.name[:12])


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), CacheInvalid("a damaged chunk")], ids=repr)
@pytest.mark.parametrize("name", FORMATS)
def test_nothing_is_replaced_and_nothing_half_is_left(cache_path, tmp_path, name, interrupt):
    cache = FeatureCache.open(cache_path)

    def stop(rows: int) -> None:
        raise interrupt

    folder = tmp_path / "out"
    with pytest.raises(type(interrupt)) as caught:
        export(cache, folder / name, advance=stop)
    assert caught.value is interrupt
    assert list(folder.iterdir()) == []
    export(cache, folder / name)
    before = toys.snapshot(folder)
    with pytest.raises(CacheStorage) as storage:
        export(cache, folder / name)
    assert str(storage.value) == (
        f"{folder / name}: is there already and is not replaced; remove it, or export to another name"
    )
    assert toys.snapshot(folder) == before


def test_a_folder_that_takes_nothing(cache_path, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheStorage) as caught:
        export(FeatureCache.open(cache_path), tmp_path / "file/a.npz")
    assert str(caught.value) == f"{tmp_path}/file/a.npz: cannot be written (File exists); nothing is left of it"


def test_modes_are_the_umask_s(cache_path, tmp_path):
    before = os.umask(0o027)
    try:
        for name in FORMATS[:3]:
            export(FeatureCache.open(cache_path), tmp_path / name)
            assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


@given(
    rows=st.integers(1, 30),
    views=st.integers(0, 2),
    name=st.sampled_from(FORMATS),
    classes=st.lists(NAMES, min_size=1, max_size=4, unique_by=comparable),
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trips_of_any_shape(tmp_path_factory, rows, views, name, classes):
    folder = tmp_path_factory.mktemp("any")
    found = toys.identity({"train": rows, "val": 3}, views=views, classes=tuple(classes))
    extracted = FeatureCache.open(toys.make(folder / "stores", found))
    export(extracted, folder / name)
    same_rows(extracted, imported(folder / "again", folder / name))


@pytest.mark.parametrize("name", FORMATS)
def test_of_two_exports_to_one_name_the_second_is_refused(cache_path, tmp_path, name):
    cache, seen = FeatureCache.open(cache_path), []

    def other_export(rows: int) -> None:
        if not seen:
            seen.append(rows)
            export(cache, tmp_path / name, ["test"])

    with pytest.raises(CacheStorage) as caught:
        export(cache, tmp_path / name, advance=other_export)
    assert str(caught.value) == (
        f"{tmp_path / name}: is there already and is not replaced; remove it, or export to another name"
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(f".{name}")] == []
    whole = Request((("train", tmp_path / name),))
    assert len(read_dataset(whole).splits["train"].labels_N) == 20


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_killed_export_left_goes_with_the_next(cache_path, tmp_path, name):
    killed = tmp_path / f".{name}.{12345}.tmp"
    others = [tmp_path / f".{name}.notes.tmp", tmp_path / f".b{name}.12345.tmp", tmp_path / f".{name}.12345"]
    if name == "a":
        (killed / "train").mkdir(parents=True)
    else:
        killed.write_bytes(b"half")
    for other in others:
        other.write_text("somebody's")
    export(FeatureCache.open(cache_path), tmp_path / name)
    assert not killed.exists()
    assert all(other.exists() for other in others)


def test_a_link_that_leads_nowhere_is_not_replaced(cache_path, tmp_path):
    (tmp_path / "a.npz").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CacheStorage, match="is there already and is not replaced"):
        export(FeatureCache.open(cache_path), tmp_path / "a.npz")
    assert (tmp_path / "a.npz").is_symlink()
