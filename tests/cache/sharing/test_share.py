"""What is pushed arrives, to the bit, or not at all: with servers that break off, lie, and stop at every object."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest
import toy_caches as toys
from conftest import ROOT
from fault_proxy import in_turn

from cache import CacheCorrupt, CacheInvalid, CacheNotFound, FeatureCache, catalog
from cache import sharing as remote
from cache.errors import CacheDropped, CacheStorage
from cache.sharing import bucket, offers, parallel, pull
from cache.sharing import pull as arrival
from cache.sharing import push as share
from pipeline.commands import cache_text as tables

SMALL = toys.identity({"train": 10}, views=0)
FILES = 7
"""Of a small cache, without its manifest."""
DATA = "features.zarr"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return toys.make(tmp_path / "mine", SMALL, author="Ada")


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """The same key, in other files."""
    return toys.make(tmp_path / "theirs", SMALL, chunk=4, author="Bob", created="2026-01-02")


@pytest.fixture
def _one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "WORKERS", 1)


def pulled(place: str, key: str, stores: Path) -> Path:
    found = pull.pull(pull.find(remote.at(place), key), stores)
    return Path(found.path)


def where(s3, path: Path, file: str) -> str:
    """An object's name in the bucket."""
    checksum = catalog.read_manifest(path).checksum
    return f"features/{path.name}/{checksum}/{file}"


def nothing_is_seen(place: str, key: str) -> None:
    assert offers.ls(remote.at(place)) == []
    with pytest.raises(CacheNotFound):
        pull.find(remote.at(place), key)


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_what_is_pushed_is_pulled(kind, request, tmp_path):
    path = toys.make(tmp_path / "mine")
    size = catalog.read_manifest(path).size
    place = request.getfixturevalue("s3").url if kind == "bucket" else str(tmp_path / "team")
    counted: list[int] = []
    assert share.push(path, remote.at(place), counted.append).state == "pushed"
    assert share.push(path, remote.at(place)).state == "there"
    assert sum(counted) == size

    offer = pull.find(remote.at(place), path.name[:4])
    counted.clear()
    found = pull.pull(offer, tmp_path / "yours", counted.append)
    assert (found.state, found.key, found.bytes, sum(counted)) == ("pulled", path.name, size, size)
    assert toys.snapshot(Path(found.path)) == toys.snapshot(path)
    assert pull.pull(offer, tmp_path / "yours").state == "there"
    assert [file.name for file in (tmp_path / "yours/.staging").iterdir()] == [f"{path.name}.pull.lock"]

    listed, local = offers.ls(remote.at(place)), catalog.ls(tmp_path / "mine")
    assert listed == [dataclasses.replace(local[0], path=f"{place}/{path.name}", modified=listed[0].modified)]


def test_a_copied_folder_of_any_name_is_pushed(small, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(small, copy)
    assert share.push(copy, remote.at(str(tmp_path / "team"))).path == str(tmp_path / "team" / small.name)
    assert toys.snapshot(tmp_path / "team" / small.name) == toys.snapshot(small)


@pytest.mark.usefixtures("_one_at_a_time")
def test_a_push_that_stops_at_any_object_shows_nothing_and_goes_on(s3, small):
    for stop in range(FILES + 1):
        url = f"{s3.url}/{stop}"
        s3.proxy.seen.clear()
        s3.proxy.fault = lambda method, path, stop=stop: "deny" if s3.proxy.count("PUT") > stop else ""
        with pytest.raises(CacheStorage, match=r"not allowed to write \(AccessDenied\)"):
            share.push(small, remote.at(url))
        s3.proxy.fault = lambda method, path: ""
        nothing_is_seen(url, small.name)
        s3.proxy.seen.clear()
        assert share.push(small, remote.at(url)).state == "pushed"
        assert s3.proxy.count("PUT") == FILES + 1 - stop
        puts = [path for method, path, _ in s3.proxy.seen if method == "PUT"]
        assert [path.endswith("manifest.json") for path in puts] == [False] * (FILES - stop) + [True]


@pytest.mark.usefixtures("_one_at_a_time")
def test_a_pull_that_stops_at_any_object_shows_nothing_and_goes_on(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    for stop in range(FILES):
        stores = tmp_path / f"yours-{stop}"
        offer = pull.find(remote.at(s3.url), small.name)
        s3.proxy.seen.clear()
        s3.proxy.fault = lambda method, path, stop=stop: "deny" if s3.proxy.count("GET") > stop else ""
        with pytest.raises(CacheStorage, match=r"not allowed to read \(AccessDenied\)"):
            pull.pull(offer, stores)
        s3.proxy.fault = lambda method, path: ""
        assert [one.state for one in catalog.ls(stores)] == ["incomplete"]
        s3.proxy.seen.clear()
        pull.pull(offer, stores)
        assert s3.proxy.count("GET") == FILES - stop
        assert toys.snapshot(stores / small.name) == toys.snapshot(small)


@pytest.mark.parametrize("kind", ["bucket", "folder"])
@pytest.mark.usefixtures("_one_at_a_time")
def test_an_interrupt_stops_at_once_and_leaves_what_arrived(kind, request, small, tmp_path):
    place = request.getfixturevalue("s3").url if kind == "bucket" else str(tmp_path / "team")

    def interrupt(size: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share.push(small, remote.at(place), interrupt)
    nothing_is_seen(place, small.name)
    share.push(small, remote.at(place))
    with pytest.raises(KeyboardInterrupt):
        pull.pull(pull.find(remote.at(place), small.name), tmp_path / "yours", interrupt)
    assert not (tmp_path / "yours" / small.name).exists()
    assert not list((tmp_path / "yours").rglob("*.tmp"))
    assert toys.snapshot(pulled(place, small.name, tmp_path / "yours")) == toys.snapshot(small)


def test_a_server_that_drops_connections(s3, tmp_path):
    path = toys.make(tmp_path / "mine")
    s3.proxy.fault = in_turn("drop", "cut", "")
    share.push(path, remote.at(s3.url))
    assert toys.snapshot(pulled(s3.url, path.name, tmp_path / "yours")) == toys.snapshot(path)


def test_a_broken_answer_is_gone_on_with_where_it_broke_off(s3, tmp_path):
    path = toys.make(tmp_path / "mine", toys.identity({"train": 4000}, views=0, width=256, dtype="float32"), chunk=4000)
    share.push(path, remote.at(s3.url))
    s3.proxy.seen.clear()
    s3.proxy.fault = lambda method, path: "cut" if s3.proxy.count("GET", "c/0/0") == 1 else ""
    assert toys.snapshot(pulled(s3.url, path.name, tmp_path / "yours")) == toys.snapshot(path)
    ranges = [asked for _, path, asked in s3.proxy.seen if path.endswith("c/0/0")]
    assert ranges[0] == ""
    assert all(int(asked.removeprefix("bytes=").split("-")[0]) > 0 for asked in ranges[1:])


def test_a_server_that_never_sends_an_object_whole(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    s3.proxy.fault = lambda method, path: "drop" if "c/1/0" in path else ""
    with pytest.raises(CacheDropped, match=r"c/1/0: no whole answer \(.*\); look at the network"):
        pulled(s3.url, small.name, tmp_path / "yours")
    assert [one.state for one in catalog.ls(tmp_path / "yours")] == ["incomplete"]
    s3.proxy.fault = lambda method, path: ""
    pulled(s3.url, small.name, tmp_path / "yours")


def test_wrong_bytes_are_asked_for_again(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    s3.proxy.seen.clear()
    s3.proxy.fault = lambda method, path: "wrong" if s3.proxy.count("GET", "c/1/0") == 1 and "c/1/0" in path else ""
    assert toys.snapshot(pulled(s3.url, small.name, tmp_path / "yours")) == toys.snapshot(small)
    assert s3.proxy.count("GET", "c/1/0") == 2


def test_a_server_that_serves_wrong_bytes_is_not_believed(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    s3.proxy.fault = lambda method, path: "wrong" if "c/1/0" in path else ""
    with pytest.raises(CacheCorrupt) as caught:
        pulled(s3.url, small.name, tmp_path / "yours")
    file = f"{DATA}/train/clean/c/1/0"
    content = (small / file).read_bytes()
    wrong = toys.hashlib.sha256(content[:-1] + bytes([content[-1] ^ 1])).hexdigest()
    assert str(caught.value) == (
        f"s3://{s3.bucket}/{where(s3, small, file)}: wanted sha256 {toys.hashlib.sha256(content).hexdigest()}, "
        f"found {wrong}, 4 times; push the cache again from where it is whole"
    )
    assert [one.state for one in catalog.ls(tmp_path / "yours")] == ["incomplete"]


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_a_damaged_cache_is_not_pushed(kind, request, small, tmp_path):
    place = request.getfixturevalue("s3").url if kind == "bucket" else str(tmp_path / "team")
    file = small / DATA / "train/clean/c/1/0"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    with pytest.raises(CacheCorrupt, match=r"c/1/0: wanted sha256 \w{64}, found \w{64}"):
        share.push(small, remote.at(place))
    nothing_is_seen(place, small.name)
    file.write_bytes(content)
    assert share.push(small, remote.at(place)).state == "pushed"


def test_a_large_file_goes_in_parts_and_a_damaged_one_not_at_all(s3, tmp_path):
    path = toys.make(tmp_path / "mine", toys.identity({"train": 9000}, views=0, width=512), chunk=9000)
    file = path / DATA / "train/clean/c/0/0"
    content = file.read_bytes()
    assert len(content) > bucket.PIECE
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CacheCorrupt, match=r"c/0/0: wanted sha256"):
        share.push(path, remote.at(s3.url))
    assert f"{DATA}/train/clean/c/0/0" not in remote.at(s3.url).sizes(
        f"{path.name}/{FeatureCache.open(path).manifest.checksum}"
    )
    file.write_bytes(content)
    share.push(path, remote.at(s3.url))
    assert s3.proxy.count("PUT", "partNumber=2") == 1
    assert toys.snapshot(pulled(s3.url, path.name, tmp_path / "yours")) == toys.snapshot(path)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_a_push_mends_what_is_there(s3, small, tmp_path, published, damage):
    """What an interrupted push left, or what was damaged later, is not taken on trust."""
    share.push(small, remote.at(s3.url))
    name = where(s3, small, f"{DATA}/train/clean/c/1/0")
    content = s3.request("GET", name)
    if damage == "delete":
        s3.request("DELETE", name)
    else:
        s3.request("PUT", name, content[:-1] + (b"x" if damage == "flip" else b""))
    if not published:
        s3.request("DELETE", f"features/{small.name}/manifest.json")
    s3.proxy.seen.clear()
    assert share.push(small, remote.at(s3.url)).state == "pushed"
    assert s3.proxy.count("PUT") == (1 if published else 2)
    assert toys.snapshot(pulled(s3.url, small.name, tmp_path / "yours")) == toys.snapshot(small)


def test_an_object_that_is_missing_or_has_another_size(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    file = f"{DATA}/train/clean/c/1/0"
    name = where(s3, small, file)
    size = len(s3.request("GET", name))
    s3.request("PUT", name, b"x" * 5_000_000)
    with pytest.raises(CacheCorrupt) as caught:
        pulled(s3.url, small.name, tmp_path / "yours")
    assert str(caught.value) == f"s3://{s3.bucket}/{name}: wanted {size} bytes, found 5000000; push the cache again"
    s3.request("DELETE", name)
    with pytest.raises(CacheNotFound) as gone:
        pulled(s3.url, small.name, tmp_path / "yours")
    remedy = "push the cache again from where it is whole"
    assert str(gone.value) == f"s3://{s3.bucket}/{name}: no such object; {remedy}"


def test_a_folders_copy_that_lost_a_file_is_pushed_again(small, tmp_path):
    """The remedy for a cache in stores/, `cache rm`, would not mend the place."""
    share.push(small, remote.at(str(tmp_path / "team")))
    file = tmp_path / "team" / small.name / DATA / "train/clean/c/1/0"
    file.unlink()
    with pytest.raises(CacheCorrupt) as caught:
        pulled(str(tmp_path / "team"), small.name, tmp_path / "yours")
    assert str(caught.value) == f"{file}: missing; push the cache again from where it is whole"


@pytest.mark.parametrize("kind", ["bucket", "folder"])
def test_a_cache_of_the_same_key_that_was_there_first_stays(kind, request, small, theirs, tmp_path):
    place = request.getfixturevalue("s3").url if kind == "bucket" else str(tmp_path / "team")
    share.push(theirs, remote.at(place))
    found = share.push(small, remote.at(place))
    assert (found.state, found.author, found.created) == ("theirs", "Bob", "2026-01-02")
    assert toys.snapshot(pulled(place, small.name, tmp_path / "yours")) == toys.snapshot(theirs)


def test_a_lost_race_of_two_different_pushers_ends_well(s3, small, theirs, tmp_path):
    """The other publishes between our last object and our manifest: nobody's objects are touched but ours."""
    raced = []

    def race(method: str, path: str) -> str:
        if method == "PUT" and path.endswith("manifest.json") and not raced:
            raced.append(path)
            share.push(theirs, remote.at(s3.url))
        return ""

    s3.proxy.fault = race
    assert share.push(small, remote.at(s3.url)).state == "theirs"
    assert toys.snapshot(pulled(s3.url, small.name, tmp_path / "yours")) == toys.snapshot(theirs)
    checksum = catalog.read_manifest(small).checksum
    assert remote.at(s3.url).sizes(f"{small.name}/{checksum}") == {}


def at_once(*acts) -> list[offers.Shared]:
    found: list[offers.Shared] = []
    threads = [threading.Thread(target=lambda act=act: found.append(act())) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_two_pushers_of_one_cache_at_once(s3, small, tmp_path):
    found = at_once(*[lambda: share.push(small, remote.at(s3.url))] * 2)
    assert {one.state for one in found} <= {"pushed", "there"}
    assert len(found) == 2
    assert toys.snapshot(pulled(s3.url, small.name, tmp_path / "yours")) == toys.snapshot(small)


@pytest.mark.parametrize("locks", [True, False])
def test_two_pullers_at_once(s3, small, tmp_path, monkeypatch, locks):
    if not locks:
        monkeypatch.setattr(arrival, "locked", lambda path, waiting: nullcontext())
    share.push(small, remote.at(s3.url))
    offer = pull.find(remote.at(s3.url), small.name)
    found = at_once(*[lambda: pull.pull(offer, tmp_path / "yours")] * 3)
    assert len(found) == 3
    assert toys.snapshot(tmp_path / "yours" / small.name) == toys.snapshot(small)


def test_finding_by_the_start_of_a_key(s3, small, tmp_path):
    place = remote.at(s3.url)
    with pytest.raises(CacheNotFound) as caught:
        pull.find(place, small.name[:8])
    assert str(caught.value) == (
        f"cache {small.name[:8]}: neither a key nor the start of one in {s3.url}; `cache ls {s3.url}` lists those there are"
    )
    share.push(small, place)
    assert pull.find(place, small.name[:4]).manifest.key == small.name
    with pytest.raises(CacheNotFound):
        pull.find(place, small.name[:3])
    other = small.name[:4] + "0" * 60
    s3.request("PUT", f"features/{other}/x", b"not a cache yet")
    assert pull.find(place, small.name[:4]).manifest.key == small.name


def test_a_manifest_that_is_not_of_its_key(s3, small):
    share.push(small, remote.at(s3.url))
    content = s3.request("GET", f"features/{small.name}/manifest.json")
    other = "ab" * 32
    s3.request("PUT", f"features/{other}/manifest.json", content)
    s3.request("PUT", f"features/{'cd' * 32}/manifest.json", content[:-9])
    listed = {one.key: one for one in offers.ls(remote.at(s3.url))}
    assert [listed[key].state for key in (small.name, other, "cd" * 32)] == ["published", "damaged", "damaged"]
    with pytest.raises(CacheInvalid) as caught:
        pull.find(remote.at(s3.url), other)
    assert str(caught.value) == (
        f"{s3.url}/{other}/manifest.json: wanted the manifest of {other[:12]}, found that of {small.name[:12]}; "
        "push the cache again from where it is whole"
    )
    assert "not a manifest of format 1" in listed["cd" * 32].problem


def test_limits_hold_before_anything_is_stored(s3, small, tmp_path, monkeypatch):
    share.push(small, remote.at(s3.url))
    offer = pull.find(remote.at(s3.url), small.name)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(CacheStorage) as caught:
        pull.pull(offer, tmp_path / "yours")
    assert str(caught.value) == (
        f"{tmp_path}/yours/.staging/{small.name}.pull/data: wanted {offer.manifest.size} bytes for the rest of "
        f"{s3.url}/{small.name}, found 100 free; free space, then run the same command again"
    )
    monkeypatch.setattr(offers, "LIMIT", 1000)
    with pytest.raises(CacheInvalid, match=r"manifest.json: wanted at most 1000 bytes, found \d+"):
        pull.find(remote.at(s3.url), small.name)


def test_something_in_the_way_is_named(s3, small, tmp_path):
    share.push(small, remote.at(s3.url))
    (tmp_path / "yours" / small.name / "x").mkdir(parents=True)
    with pytest.raises(CacheStorage, match="something that is no cache has this name; remove it"):
        pulled(s3.url, small.name, tmp_path / "yours")


@pytest.mark.parametrize("verb", ["push", "pull"])
def test_a_process_killed_under_way_goes_on(s3, small, tmp_path, verb, coattail):
    environment = s3.environment | {"COATTAIL_STORES": str(small.parent if verb == "push" else tmp_path / "yours")}
    arguments = ["cache", verb, s3.url, small.name[:8]]
    if verb == "pull":
        share.push(small, remote.at(s3.url))
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "cli.py"), *arguments],
        env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    s3.proxy.seen.clear()

    def kill(method: str, path: str) -> str:
        if "c/1/0" in path and process.poll() is None:
            process.send_signal(signal.SIGKILL)
        return ""

    s3.proxy.fault = kill
    assert process.wait() == -signal.SIGKILL
    s3.proxy.fault = lambda method, path: ""
    if verb == "push":
        nothing_is_seen(s3.url, small.name)
    else:
        assert not (tmp_path / "yours" / small.name).exists()
    done = coattail(*arguments, "--json", **environment)
    assert (done.code, done.json[0]["state"]) == (0, f"{verb}ed"), done.err
    assert toys.snapshot(pulled(s3.url, small.name, tmp_path / "again")) == toys.snapshot(small)


def test_the_commands_say_what_came_of_it(s3, coattail, tmp_path, small):
    size = tables.size(catalog.read_manifest(small).size)
    done = coattail("cache", "push", s3.url, COATTAIL_STORES=str(small.parent))
    assert (done.code, done.out) == (0, f"{s3.url}/{small.name}: pushed ({size})\n"), done.err
    listed = coattail("cache", "ls", s3.url, "--json")
    assert [one["key"] for one in listed.json] == [small.name]
    assert small.name[:12] in coattail("cache", "ls", s3.url).out
    done = coattail("cache", "pull", s3.url, small.name[:6])
    assert done.out == f"{tmp_path}/stores/{small.name}: pulled ({size})\n"
    done = coattail("cache", "push", s3.url, COATTAIL_STORES="empty")
    assert done.code == 2
    assert f"which cache? {tmp_path}/empty has none; name it after DEST" in done.err
    done = coattail("cache", "ls", "ftp://x")
    assert (done.code, done.err) == (
        2,
        "coattail: ftp://x: wanted a folder, s3://, gs:// or az://BUCKET/FOLDER, found ftp://\n",
    )


@pytest.mark.parametrize("part", ["c/1/0", "manifest.json"])
def test_a_store_that_says_yes_and_keeps_nothing_is_not_believed(s3, small, part):
    s3.proxy.fault = lambda method, path: "lie" if method == "PUT" and path.endswith(part) else ""
    with pytest.raises(
        CacheStorage, match=rf"{part}: wanted \d+ bytes, found none, though the store said that it took it"
    ):
        share.push(small, remote.at(s3.url))
    nothing_is_seen(s3.url, small.name)


def test_a_folder_that_cannot_be_written_is_named_alone(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheStorage) as caught:
        share.push(small, remote.at(str(tmp_path / "file" / "team")))
    assert str(caught.value).startswith(f"{tmp_path}/file/team: cannot be written (")
    assert "COATTAIL" not in str(caught.value)
    with pytest.raises(CacheStorage) as caught:
        share.push(small, remote.at("/proc/team"))
    assert str(caught.value) == (
        "/proc/team: cannot be written (No such file or directory); make the folder writable, or push to another, "
        "then run the same command again"
    )
