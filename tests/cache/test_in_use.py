"""A cache in use is not pulled from under its reader; what is damaged is found and can be taken away."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import toy_caches as toys
from conftest import ROOT

from cache import CacheNotFound, CacheWriter, FeatureCache, Provenance, catalog
from cache import sharing as remote
from cache.errors import CacheInUse, CacheInvalid
from cache.prune import prune
from cache.remove import rm
from cache.sharing import push as share
from cache.verify import verify

READER = """
import hashlib, sys
from cache import FeatureCache
cache = FeatureCache.open(sys.argv[1])
print("open", flush=True)
for _ in sys.stdin:
    print(hashlib.sha256(cache.features("train").tobytes()).hexdigest(), flush=True)
"""


@pytest.fixture
def reader(cache_path):
    """A process that has the cache open, and reads it for each line that it is given."""
    process = subprocess.Popen(
        [sys.executable, "-c", READER, str(cache_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout.readline() == "open\n"
        yield process
        process.kill()


def test_rm_and_prune_leave_a_cache_to_its_reader_until_that_one_ends(cache_path, coattail, reader):
    wanted = toys.hashlib.sha256(toys.expected(toys.identity(), "train", "clean").tobytes()).hexdigest()
    environment = {"COATTAIL_STORES": str(cache_path.parent)}
    refusal = f"{cache_path}: in use; wait until whoever reads it is done, then try again"
    done = coattail("cache", "rm", cache_path.name, "--yes", **environment)
    assert (done.code, done.err) == (1, f"coattail: {refusal}\n")
    done = coattail("cache", "prune", "--older-than", "0", "--yes", "--json", **environment)
    assert [one["kept"] for one in done.json] == [refusal]
    reader.stdin.write("again\n")
    reader.stdin.flush()
    assert reader.stdout.readline() == f"{wanted}\n"
    reader.send_signal(signal.SIGKILL)
    reader.wait()
    assert coattail("cache", "rm", cache_path.name, "--yes", **environment).code == 0
    assert not cache_path.exists()


def test_a_push_holds_the_cache(cache_path, tmp_path):
    refused = []

    def try_rm(size: int) -> None:
        with pytest.raises(CacheInUse):
            rm(cache_path)
        refused.append(size)

    assert share.push(cache_path, remote.at(str(tmp_path / "team")), try_rm).state == "pushed"
    assert refused
    rm(cache_path)


def test_what_is_pruned_goes_in_one_step(tmp_path, monkeypatch):
    """Whoever starts to write while the files go finds an empty place, and loses nothing."""
    with CacheWriter(tmp_path, toys.identity(), Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer, 3)
    rmtree = shutil.rmtree

    def started_meanwhile(path, ignore_errors):
        monkeypatch.undo()
        toys.make(tmp_path)
        rmtree(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", started_meanwhile)
    (found,) = prune(tmp_path, incomplete_after=-1, yes=True)
    assert found.kept == ""
    assert [one.state for one in catalog.ls(tmp_path)] == ["published"]


def test_ls_survives_what_goes_while_it_looks(cache_path, monkeypatch):
    read = catalog.read_manifest

    def too_late(path):
        shutil.rmtree(path)
        return read(path)

    monkeypatch.setattr(catalog, "read_manifest", too_late)
    assert catalog.ls(cache_path.parent) == []
    assert (catalog._bytes(cache_path), catalog._modified(cache_path)) == (0, 0.0)


def test_a_cache_without_its_manifest_is_found_and_goes(cache_path, coattail):
    (cache_path / "manifest.json").unlink()
    stores = cache_path.parent
    assert catalog.resolve(stores, cache_path.name[:6]) == cache_path
    assert catalog.resolve(stores, str(cache_path)) == cache_path
    assert [(one.key, one.state) for one in catalog.ls(stores)] == [(cache_path.name, "damaged")]
    assert [str(one) for one in verify(cache_path).findings] == ["manifest.json: missing"]
    done = coattail("cache", "verify", cache_path.name, COATTAIL_STORES=str(stores))
    assert (done.code, done.out.splitlines()[0]) == (1, f"{cache_path}: manifest.json: missing")
    assert [one.reason for one in prune(stores)] == ["damaged"]
    with pytest.raises(CacheInvalid, match=r"changed within the last hour, so it may still be being copied; try again"):
        rm(cache_path)
    (kept,) = prune(stores, yes=True, now=time.time() + 4000)
    assert kept.kept == f"no whole manifest proves that it is a cache; `cache rm {cache_path.name[:12]}` deletes it"
    rm(cache_path, now=time.time() + 4000)
    with pytest.raises(CacheNotFound, match="no cache there; `cache ls` lists those there are"):
        rm(cache_path)


def test_the_remedy_of_a_damaged_cache_works(cache_path):
    file = cache_path / "features.zarr/train/clean/c/1/0"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    toys.make(cache_path.parent)
    assert not verify(cache_path).sound
    rm(cache_path)
    toys.make(cache_path.parent)
    assert verify(cache_path).sound
    assert FeatureCache.open(cache_path).features("train").shape == (50, 8)
