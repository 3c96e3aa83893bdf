"""What may be stored, what is refused, and that a resumed extraction equals an uninterrupted one."""

import hashlib
import json
import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy_caches as toys

from cache import CacheInvalid, CacheWriter, FeatureCache, Provenance
from cache.errors import CacheCorrupt, CacheStorage
from cache.format.layout import view_names
from cache.staging.journal import Journal

ONE = toys.identity({"train": 20}, views=0)


def writer_of(stores: Path, **options) -> CacheWriter:
    return CacheWriter(stores, ONE, Provenance(name="toy"), rows_per_chunk=8, **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "the feature is not finite; look at the image, or extract with extract.amp=off"),
        (np.inf, "the feature is not finite; look at the image, or extract with extract.amp=off"),
        (70_000.0, "70000 does not fit float16; set extract.dtype=float32"),
        (-70_000.0, "70000 does not fit float16; set extract.dtype=float32"),
    ],
)
def test_what_cannot_be_stored_names_its_sample(tmp_path, value, message):
    with writer_of(tmp_path) as writer:
        writer.write_rows("train", toys.frame("train", 20))
        shards = list(writer.pending("train", "clean"))
        bad = np.ones((8, toys.WIDTH), np.float32)
        bad[3, 5] = value
        with pytest.raises(CacheInvalid) as caught:
            writer.write(shards[1], bad)
        assert str(caught.value) == f"train/clean, row 11 (sample 'train-0011'), layer avgpool: {message}"
        assert list(writer.pending("train", "clean")) == shards
        with pytest.raises(
            CacheInvalid, match=r"features of train/clean, rows 0 to 8: not written; nothing is published"
        ):
            writer.publish()
    assert not list(tmp_path.rglob("c/*/0"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.head(19), "wanted rows 0 to 19 in order, found 19 rows"),
        (lambda f: f.reverse(), "wanted rows 0 to 19 in order, found 20 rows"),
        (lambda f: f.with_columns(label=pl.lit(3)), "label 3 of sample 'train-0000', wanted 0 to 2"),
        (lambda f: f.with_columns(label=pl.lit(-1)), "label -1 of sample 'train-0000', wanted 0 to 2"),
        (
            lambda f: f.with_columns(sample_id=pl.lit("same")),
            "sample_id 'same' stands twice (rows 0 and 1); ids are unique in a split",
        ),
        (lambda f: f.with_columns(sample_id=pl.lit(None, pl.String)), "row 0 has no sample_id or label"),
        (lambda f: f.with_columns(sample_id=pl.col("row")), "wanted column sample_id of String, found Int64"),
        (
            lambda f: f.with_columns(sample_id=pl.col("sample_id") + "x"),
            "the sample ids, or their order, are not the identity's",
        ),
    ],
)
def test_rows_that_do_not_hold(tmp_path, change, message):
    with writer_of(tmp_path) as writer, pytest.raises(CacheInvalid, match=re.escape(f"rows of split train: {message}")):
        writer.write_rows("train", change(toys.frame("train", 20)))


def test_wrong_shapes_and_types(tmp_path):
    with writer_of(tmp_path) as writer:
        shard = next(writer.pending("train", "clean"))
        with pytest.raises(CacheInvalid, match=r"train/clean, rows 0 to 8: wanted \(8, 8\), found \(7, 8\)"):
            writer.write(shard, np.ones((7, 8)))
        with pytest.raises(CacheInvalid, match="wanted floating point features, found int64"):
            writer.write(shard, np.ones((8, 8), np.int64))
        with pytest.raises(CacheInvalid, match=r"classifier: wanted .*\(3, 8\).*, found .*\(4, 8\)"):
            writer.write_classifier({"weight": np.ones((4, 8)), "bias": np.ones(4)})
        with pytest.raises(CacheInvalid, match="rows of split train: not written; nothing is published"):
            writer.publish()


@pytest.mark.parametrize("stops", [[0], [1], [3, 0, 5], [1] * 16])
def test_a_resumed_extraction_equals_an_uninterrupted_one(tmp_path, stops):
    whole = toys.make(tmp_path / "whole")
    redone = 0
    for stop in stops:
        with CacheWriter(tmp_path / "parts", toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
            redone += toys.fill(writer, stop)
    # The chunk size of the first attempt stays: what is written is not written again.
    with CacheWriter(tmp_path / "parts", toys.identity(), Provenance(name="toy"), rows_per_chunk=5) as writer:
        redone += toys.fill(writer)
        resumed = writer.publish()
    assert redone == 7 + 7 + 3
    assert toys.snapshot(whole) == toys.snapshot(resumed)
    assert [file.name for file in (tmp_path / "parts/.staging").iterdir()] == [f"{whole.name}.lock"]


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "torn journal"])
def test_a_shard_damaged_in_staging_is_written_again(tmp_path, damage):
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer, 4)
    file = next(tmp_path.rglob("clean/c/2/0"))
    content = file.read_bytes()
    if damage == "flip":
        file.write_bytes(b"x" + content[1:])
    elif damage == "truncate":
        file.write_bytes(content[:-1])
    elif damage == "delete":
        file.unlink()
    else:
        journal = next(tmp_path.rglob("journal-0.jsonl"))
        journal.write_bytes(journal.read_bytes()[:-5])
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy")) as writer:
        assert toys.fill(writer) == 17 - 3
        path = writer.publish()
    assert toys.snapshot(path) == toys.snapshot(toys.make(tmp_path / "whole"))


def test_damage_after_the_journal_was_read_is_not_published(tmp_path):
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        file = next(tmp_path.rglob("clean/c/2/0"))
        file.write_bytes(b"x" + file.read_bytes()[1:])
        with pytest.raises(CacheStorage, match="c/2/0: changed after it was written; run the same command again"):
            writer.publish()
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer) == 1
        FeatureCache.open(writer.publish())


def test_shards_whose_description_is_gone_are_written_again(tmp_path):
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        next(tmp_path.rglob("train/clean/zarr.json")).unlink()
        with pytest.raises(CacheStorage, match=r"zarr\.json: changed after it was written; run the same command again"):
            writer.publish()
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer) == 7
        FeatureCache.open(writer.publish())


def test_strangers_in_staging_do_not_get_published(tmp_path):
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        data = next(tmp_path.rglob("data"))
        (data / "stranger.pkl").write_bytes(b"x")
        (data / "features.zarr/train/clean/c/0/.0.1.tmp").write_bytes(b"x")
        path = writer.publish()
    assert toys.snapshot(path) == toys.snapshot(toys.make(tmp_path / "whole"))


def test_who_comes_late_finds_the_work_done(cache_path):
    before = toys.snapshot(cache_path)
    with CacheWriter(cache_path.parent, toys.identity(), Provenance(name="late")) as writer:
        assert toys.fill(writer) == 0
        assert writer.publish() == cache_path
    assert toys.snapshot(cache_path) == before


def test_a_folder_in_the_way_is_named_and_nothing_is_lost(tmp_path):
    (tmp_path / toys.identity().key() / "stuff").mkdir(parents=True)
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        with pytest.raises(CacheStorage) as error:
            writer.publish()
    path = tmp_path / toys.identity().key()
    assert str(error.value) == (
        f"{path}: something that is no cache has this name; remove it with `cache rm {path.name[:12]}`, then run the same "
        "command again"
    )
    (tmp_path / toys.identity().key() / "stuff").rmdir()
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer) == 0
        FeatureCache.open(writer.publish())


def test_a_file_in_the_way_is_named(tmp_path):
    path = tmp_path / toys.identity().key()
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        path.write_text("")
        with pytest.raises(CacheStorage) as error:
            writer.publish()
    assert str(error.value) == (
        f"{path}: something that is no cache has this name; delete it, then run the same command again"
    )


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"x", b"\xff", b"[]", b"null", b"1", b"[" * 10_000, b" " * (1 << 17)),
        *(b'{"rows_per_chunk": %s}' % value for value in (b"0", b"-1", b"8.0", b"true", b'"8"', b"null", b"4194305")),
        *(b'{"chunks_per_shard": 1025}', b'{"chunks_per_shard": 0}', b'{"x": 1}'),
    ],
)
def test_a_plan_that_no_writer_made(tmp_path, content):
    work = tmp_path / ".staging" / toys.identity().key()
    work.mkdir(parents=True)
    (work / "plan.json").write_bytes(content)
    with (
        pytest.raises(CacheCorrupt) as error,
        CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8),
    ):
        pass
    assert str(error.value) == (
        f"{work}/plan.json: not as it was written; delete {work}, then run the same command again"
    )


def test_a_description_in_staging_that_no_writer_made(tmp_path):
    work = tmp_path / ".staging" / toys.identity().key()
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        shard, other = list(writer.pending("train", "clean"))[:2]
        writer.write(shard, np.zeros((8, 8)))
        file = work / "data/features.zarr/train/clean/zarr.json"
        file.write_bytes(b"[" * 10_000)
        with pytest.raises(CacheCorrupt) as error:
            writer.write(other, np.zeros((8, 8)))
    assert str(error.value) == f"{file}: not as it was written; delete {work}, then run the same command again"


@pytest.mark.parametrize("line", [b"[" * 10_000, b"[]", b"null", b'{"split": [], "view": {}, "index": null}'])
def test_lines_of_a_journal_that_no_writer_wrote_do_not_count(tmp_path, line):
    work = tmp_path / ".staging" / toys.identity().key()
    work.mkdir(parents=True)
    (work / "journal-0.jsonl").write_bytes(line + b"\n")
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        assert toys.fill(writer) > 0
        FeatureCache.open(writer.publish())


def test_a_journal_leads_to_no_file_outside_and_waits_for_none(tmp_path):
    work = tmp_path / ".staging" / toys.identity().key()
    inside = work / "data/features.zarr/train/clean/c/0"
    inside.mkdir(parents=True)
    (inside.parent.parent / "zarr.json").write_text("{}")
    os.mkfifo(inside / "0")
    digest = hashlib.sha256(b"").hexdigest()
    for split in ("train", "../train"):
        entry = {"file": f"features.zarr/{split}/clean/c/0/0", "size": 0, "sha256": digest, "crc32c": ""}
        with (work / "journal-0.jsonl").open("a") as file:
            file.write(json.dumps({"split": split, "view": "clean", "index": 0, **entry}) + "\n")
    journal = Journal(work, work / "data", 0)
    journal.read()
    assert journal.done == {}


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 30])
@pytest.mark.parametrize("rows", [1, 3, 50])
def test_any_number_of_workers_gives_the_same_rows(tmp_path, workers, rows):
    found = toys.identity({"train": rows, "test": 2})
    whole = toys.make(tmp_path / "whole", found)
    paths = []
    for worker in reversed(range(workers)):
        options = {"worker": worker, "workers": workers}
        with CacheWriter(tmp_path / "shared", found, Provenance(name="toy"), rows_per_chunk=8, **options) as writer:
            toys.fill(writer)
            paths.append(writer.publish_if_last())
    assert paths[:-1] == [None] * (workers - 1) or workers > 3  # with few shards, some have none
    assert paths[-1] is not None
    assert toys.snapshot(paths[-1]) == toys.snapshot(whole)


def test_each_shard_has_one_owner(tmp_path):
    owned = []
    for worker in range(3):
        with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), 8, worker, 3) as writer:
            owned += [
                shard
                for split, one in writer.identity.splits.items()
                for view in view_names(one.views)
                for shard in writer.pending(split, view)
            ]
    assert len(owned) == len(set(owned)) == 17
