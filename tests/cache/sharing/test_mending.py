"""A damaged copy has a way out: push mends what a place has, pull what is here, and an import says what to do."""

import shutil
from pathlib import Path

import pytest
import toy_caches as toys

from cache import CacheCorrupt, CacheInvalid, FeatureCache, catalog
from cache import sharing as remote
from cache.errors import CacheInUse, CacheStorage
from cache.exchange import importing
from cache.sharing import offers, pull
from cache.sharing import push as share
from cache.verify import verify

SMALL = toys.identity({"train": 10}, views=0)
CHUNK = "features.zarr/train/clean/c/1/0"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return toys.make(tmp_path / "mine", SMALL, author="Ada")


def damage(path: Path, kind: str) -> None:
    file = path / ("manifest.json" if kind == "manifest" else CHUNK)
    content = file.read_bytes()
    file.unlink()
    if kind != "missing":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])


@pytest.mark.parametrize("kind", ["manifest", "missing", "bit"])
def test_a_push_mends_a_folders_copy(small, tmp_path, kind):
    team = remote.at(str(tmp_path / "team"))
    share.push(small, team)
    copy = tmp_path / "team" / small.name
    damage(copy, kind)
    assert share.push(small, team).state == "pushed"
    assert toys.snapshot(copy) == toys.snapshot(small)
    assert share.push(small, team).state == "there"
    assert [one.state for one in catalog.ls(tmp_path / "team")] == ["published"]


@pytest.mark.parametrize("kind", ["manifest", "missing", "bit"])
def test_a_pull_mends_the_copy_that_is_here(small, tmp_path, kind):
    offer = pull.find(remote.at(str(small.parent)), small.name)
    pull.pull(offer, tmp_path / "yours")
    copy = tmp_path / "yours" / small.name
    damage(copy, kind)
    assert pull.pull(offer, tmp_path / "yours").state == "pulled"
    assert verify(copy).sound
    assert toys.snapshot(copy) == toys.snapshot(small)


def test_anothers_damaged_copy_gives_way_to_a_whole_one(small, tmp_path):
    theirs = toys.make(tmp_path / "team", SMALL, chunk=4, author="Bob")
    damage(theirs, "bit")
    assert share.push(small, remote.at(str(tmp_path / "team"))).state == "pushed"
    assert toys.snapshot(theirs) == toys.snapshot(small)


@pytest.mark.parametrize("broken", ["cut", "other", "large"])
def test_a_push_replaces_a_buckets_manifest_that_is_none(s3, small, tmp_path, broken, monkeypatch):
    place, name = remote.at(s3.url), f"features/{small.name}/manifest.json"
    share.push(small, place)
    content = s3.request("GET", name)
    other = toys.make(tmp_path / "other")
    wrong = {"cut": content[:-9], "other": (other / "manifest.json").read_bytes(), "large": b" " * 100_000}[broken]
    s3.request("PUT", name, wrong)
    if broken == "large":
        monkeypatch.setattr(offers, "LIMIT", 50_000)
    with pytest.raises(CacheInvalid):
        pull.find(place, small.name)
    assert share.push(small, place).state == "pushed"
    assert s3.request("GET", name) == content
    assert share.push(small, place).state == "there"


def test_anothers_cache_that_lost_an_object_gives_way(s3, small, tmp_path):
    theirs = toys.make(tmp_path / "theirs", SMALL, chunk=4, author="Bob")
    share.push(theirs, remote.at(s3.url))
    s3.request("DELETE", f"features/{small.name}/{catalog.read_manifest(theirs).checksum}/{CHUNK}")
    assert share.push(small, remote.at(s3.url)).state == "pushed"
    found = pull.pull(pull.find(remote.at(s3.url), small.name), tmp_path / "yours")
    assert toys.snapshot(Path(found.path)) == toys.snapshot(small)


def test_what_may_still_be_being_copied_or_is_anothers_stays(small, tmp_path):
    copy = tmp_path / "team" / small.name
    shutil.copytree(small, copy)
    (copy / "manifest.json").unlink()
    with pytest.raises(CacheStorage) as caught:
        share.push(small, remote.at(str(copy.parent)))
    assert str(caught.value) == (
        f"{copy}: has no manifest and was changed within the last hour, so it may still be being copied; "
        "try again an hour after the last change, or delete it"
    )
    shutil.rmtree(copy)
    shutil.copytree(toys.make(tmp_path / "other"), copy)
    whole = toys.snapshot(copy)
    with pytest.raises(CacheInvalid, match="as the folder is called, found that of"):
        share.push(small, remote.at(str(copy.parent)))
    assert toys.snapshot(copy) == whole


def test_a_damaged_copy_that_is_read_stays_till_its_reader_ends(small, tmp_path):
    team = remote.at(str(tmp_path / "team"))
    share.push(small, team)
    reader = FeatureCache.open(tmp_path / "team" / small.name)
    damage(reader.path, "bit")
    with pytest.raises(CacheInUse):
        share.push(small, team)
    del reader
    assert share.push(small, team).state == "pushed"


@pytest.mark.parametrize(
    ("kind", "error", "problem"),
    [
        ("missing", CacheCorrupt, f"{CHUNK}: missing"),
        ("bit", CacheCorrupt, f"{CHUNK}: its sha256 is not the manifest's"),
        ("manifest", CacheInvalid, "manifest.json: not a manifest of format 1: "),
    ],
)
def test_work_over_a_damaged_cache_is_not_called_done(small, kind, error, problem):
    damage(small, kind)
    digested = importing.Digested(dataset=None, identity=SMALL, sums={})
    for act in (lambda: catalog.prove(small), lambda: importing.write(small.parent, digested, None)):
        with pytest.raises(error) as caught:
            act()
        assert str(caught.value).startswith(f"{small}/{problem}")
        assert str(caught.value).endswith("; `cache rm` it, then pull, extract or import it again")


def test_the_bytes_of_a_large_cache_are_left_to_verify(small, monkeypatch):
    digested = importing.Digested(dataset=None, identity=SMALL, sums={})
    notes: list[str] = []
    assert importing.write(small.parent, digested, None, note=notes.append) == small
    assert (catalog.prove(small), notes) == ("", [])
    monkeypatch.setattr(catalog, "PROOF_BYTES", catalog.read_manifest(small).size - 1)
    damage(small, "bit")
    assert importing.write(small.parent, digested, None, note=notes.append) == small
    assert notes == [
        f"cache {small.name[:12]}: the sizes of its files are right; `coattail cache verify {small.name[:12]}` compares "
        "their bytes too"
    ]
    damage(small, "missing")
    with pytest.raises(CacheCorrupt, match="missing"):
        catalog.prove(small)
