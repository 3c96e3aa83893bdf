"""What a folder in stores is: nothing of a stranger's, and nothing that is still being copied, is ever deleted."""

import os
import shutil
import time
from pathlib import Path

import pytest
import toy_caches as toys

from cache import CacheInvalid, CacheNotFound, CacheWriter, FeatureCache, Provenance, catalog, ownership
from cache import sharing as remote
from cache.prune import prune
from cache.remove import rm
from cache.sharing import offers, pull
from cache.sharing import push as share

OTHER = "ab" * 32
HOUR = 3700.0


def states(stores: Path) -> dict[str, str]:
    return {one.key: one.state for one in catalog.ls(stores)}


def test_a_copy_under_another_key_is_no_cache_of_that_key(cache_path, tmp_path):
    stores, key = cache_path.parent, cache_path.name
    other = stores / OTHER
    shutil.copytree(cache_path, other)
    wanted = (
        f"{other}/manifest.json: wanted the manifest of {OTHER[:12]}, as the folder is called, found that of {key[:12]}; "
        f"rename the folder to {key}, or delete it"
    )
    for act in (FeatureCache.open, catalog.read_manifest):
        with pytest.raises(CacheInvalid) as caught:
            act(other)
        assert str(caught.value) == wanted
    assert states(stores) == {key: "published", OTHER: "damaged"}
    assert [path for path, _ in catalog.manifests(stores)] == [cache_path]
    assert {one.key: one.state for one in offers.ls(remote.at(str(stores)))} == {key: "published", OTHER: "damaged"}
    with pytest.raises(CacheInvalid, match="found that of"):
        share.push(other, remote.at(str(tmp_path / "team")))
    with pytest.raises(CacheInvalid, match="found that of"):
        pull.find(remote.at(str(stores)), OTHER)
    (found,) = prune(stores, yes=True, now=time.time() + HOUR)
    assert (found.reason, found.kept) == (
        "damaged", f"no whole manifest proves that it is a cache; `cache rm {OTHER[:12]}` deletes it"
    )  # fmt: skip


def test_a_name_that_is_no_key_may_be_any(cache_path, tmp_path):
    (tmp_path / "link").symlink_to(cache_path)
    (tmp_path / OTHER).symlink_to(cache_path)
    shutil.copytree(cache_path, tmp_path / "copy")
    for name in ("link", "copy"):
        assert FeatureCache.open(tmp_path / name).key == cache_path.name
    with pytest.raises(CacheInvalid, match="found that of"):
        FeatureCache.open(tmp_path / OTHER)


@pytest.mark.parametrize("damage", ["missing", "shorter", "folder"])
def test_a_cache_whose_files_are_not_there_is_not_called_sound(cache_path, damage):
    file = cache_path / "features.zarr/train/clean/c/1/0"
    content = file.read_bytes()
    file.unlink()
    if damage == "shorter":
        file.write_bytes(content[:-1])
    elif damage == "folder":
        file.mkdir()
    (listed,) = catalog.ls(cache_path.parent)
    assert (listed.state, str(file) in listed.problem) == ("damaged", True)
    (shown,) = offers.ls(remote.at(str(cache_path.parent)))
    assert (shown.state, shown.problem) == ("damaged", listed.problem)
    (fresh,) = prune(cache_path.parent, yes=True)
    assert fresh.kept == "changed within the last hour, so it may still be being copied"
    (found,) = prune(cache_path.parent, yes=True, now=time.time() + HOUR)
    assert (found.reason, found.kept, cache_path.exists()) == ("damaged", "", False)


def test_what_is_being_copied_is_left_alone(cache_path):
    """Such as by rsync, which brings old times with it; the manifest may come early or late."""
    stores = cache_path.parent
    copy = stores / "copies" / cache_path.name
    shutil.copytree(cache_path, copy)
    for file in copy.rglob("*"):
        os.utime(file, (0, 0))
    for name in ("rows", "manifest.json"):  # not there yet
        shutil.move(copy / name, stores / f"later-{name}")
        assert [one.kept != "" for one in prune(copy.parent, older_than=0, yes=True)] == [True]
    with pytest.raises(CacheInvalid) as caught:
        rm(copy)
    assert str(caught.value) == (
        f"{copy}: has no manifest that names it and was changed within the last hour, so it may still be being copied; "
        "try again an hour after the last change"
    )
    rm(copy, now=time.time() + HOUR)
    assert not copy.exists()


COPYING = (
    "holds the manifest of a whole cache but not all of its files ({}), and some were written within the last hour, so it "
    "may still be being copied; try again an hour after the last change, or delete the folder yourself"
)


def test_a_cache_of_which_files_are_still_to_come_is_left_alone(cache_path):
    """A copy whose manifest came first, and one whose last file is not all there yet."""
    copy = cache_path.parent / "copies" / cache_path.name
    file = "features.zarr/train/clean/c/1/0"
    for size in (None, 5):
        shutil.copytree(cache_path, copy)
        content = (copy / file).read_bytes()
        (copy / file).unlink()
        if size is not None:
            (copy / file).write_bytes(content[:size])
        state = "missing" if size is None else f"wanted {len(content)} bytes, found {size}"
        with pytest.raises(CacheInvalid) as caught:
            rm(copy)
        assert str(caught.value) == f"{copy}: {COPYING.format(f'{file}: {state}')}"
        rm(copy, now=time.time() + HOUR)
        assert not copy.exists()


def test_a_file_that_went_from_an_old_cache_is_no_copy_under_way(cache_path, monkeypatch):
    """Nothing was written within the hour, only taken away."""
    (cache_path / "features.zarr/train/clean/c/1/0").unlink()
    times = {path: os.lstat(path) for path in cache_path.rglob("*") if path.is_file()}
    assert ownership.written(cache_path) == max(stat.st_ctime for stat in times.values())
    monkeypatch.setattr(ownership, "written", lambda path: time.time() - HOUR)
    rm(cache_path)
    assert not cache_path.exists()


def test_a_cache_with_a_flipped_bit_is_removed_at_once(cache_path):
    """All of its files are there: nobody is copying them."""
    file = cache_path / "features.zarr/train/clean/c/1/0"
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    rm(cache_path)
    assert not cache_path.exists()


@pytest.mark.parametrize("name", [OTHER, "docker"])
def test_a_folder_of_somebody_else_is_never_deleted(tmp_path, coattail, name):
    folder = tmp_path / "stores" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"schemaVersion": 2}')
    (folder / "layer.tar").write_bytes(b"1234")
    later = time.time() + 1e6
    (found,) = prune(tmp_path / "stores", older_than=0, yes=True, now=later)
    assert (found.reason, found.kept) == ("foreign", "not a cache of coattail's; delete it yourself if it may go")
    with pytest.raises(CacheInvalid) as caught:
        rm(folder, now=later)
    assert str(caught.value) == (
        f"{folder}: not provably a cache's folder, so coattail does not delete it; delete it yourself if it may go"
    )
    assert states(tmp_path / "stores") == {name: "foreign"}
    done = coattail("cache", "prune", "--yes")
    assert done.out == f"{folder} (24 B, foreign): kept, not a cache of coattail's; delete it yourself if it may go\n"
    assert (folder / "layer.tar").read_bytes() == b"1234"


def test_of_a_link_only_the_link_is_removed(cache_path, tmp_path, coattail):
    stores = tmp_path / "linked"
    stores.mkdir()
    link = stores / cache_path.name
    link.symlink_to(cache_path)
    whole = toys.snapshot(cache_path)
    done = coattail("cache", "rm", cache_path.name, "--yes", COATTAIL_STORES=str(stores))
    assert (done.code, done.out) == (
        0, f"removed the link {link}; the cache that it led to, {cache_path}, stays\n"
    ), done.err  # fmt: skip
    assert (list(stores.iterdir()), toys.snapshot(cache_path)) == ([], whole)
    link.symlink_to(cache_path)
    (found,) = prune(stores, older_than=0, yes=True, now=time.time() + HOUR)
    assert found.reason.endswith("; a link, what it leads to stays")
    assert (list(stores.iterdir()), toys.snapshot(cache_path)) == ([], whole)


def test_inside_a_caches_folder(cache_path, tmp_path, monkeypatch):
    monkeypatch.chdir(cache_path)
    assert catalog.resolve(tmp_path / "nowhere", ".") == cache_path
    assert share.push(Path(), remote.at(str(tmp_path / "team"))).state == "pushed"
    assert toys.snapshot(tmp_path / "team" / cache_path.name) == toys.snapshot(cache_path)
    rm(Path())
    assert [path.name for path in cache_path.parent.iterdir()] == [".staging"]
    assert list((cache_path.parent / ".staging").glob("trash-*")) == []


def test_a_link_to_a_cache_is_pushed(cache_path, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(cache_path)
    share.push(link, remote.at(str(tmp_path / "team")))
    assert toys.snapshot(tmp_path / "team" / cache_path.name) == toys.snapshot(cache_path)


def test_part_of_a_local_copy_is_offered_and_goes(cache_path):
    stores = cache_path.parent
    torn = stores / ".local" / cache_path.name / ".train-2-views.npy.0123.tmp"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(b"x" * 1000)
    assert prune(stores, yes=True) == []
    later = time.time() + HOUR
    (found,) = prune(stores, now=later)
    assert (found.path, found.bytes, found.reason) == (str(torn), 1000, "part of a local copy, untouched for 1 h")
    assert torn.exists()
    prune(stores, yes=True, now=later)
    assert not torn.exists()


def test_an_ambiguous_name_lists_the_candidates(tmp_path):
    for digit in range(7):
        (tmp_path / f"abcd{digit}{'0' * 59}").mkdir()
    with pytest.raises(CacheInvalid) as caught:
        catalog.resolve(tmp_path, "abcd")
    shown = ", ".join(f"abcd{digit}0000000" for digit in range(5))
    assert str(caught.value) == f"cache abcd: 7 caches in {tmp_path} start so ({shown}, …); give more digits"
    alike = [f"{'a' * 20}{digit}{'0' * 43}" for digit in range(2)]
    assert catalog.ambiguous("aaaa", alike, "x") == (
        f"cache aaaa: 2 caches in x start so ({alike[0][:21]}, {alike[1][:21]}); give more digits"
    )


def test_names_that_lead_nowhere(tmp_path):
    with pytest.raises(CacheInvalid) as caught:
        catalog.resolve(tmp_path, "~nobody-of-that-name/x")
    assert str(caught.value) == (
        "~nobody-of-that-name/x: nobody is called ~nobody-of-that-name on this machine; give the whole path"
    )
    for act in (lambda: catalog.resolve(tmp_path, f"s3://team/x/{OTHER}"),):
        with pytest.raises(CacheInvalid) as caught:
            act()
        assert str(caught.value) == (
            f"cache s3://team/x/{OTHER}: wanted a cache on this machine, found the address of one in a bucket; "
            f"run `cache pull s3://team/x {OTHER[:12]}` first, then name it {OTHER[:12]}"
        )
    with pytest.raises(CacheNotFound):
        rm(tmp_path)


@pytest.mark.parametrize("name", ["thesis.tex", "rows/notes/x.txt", "features.zarr/link"])
def test_a_strangers_file_in_a_whole_cache_is_not_deleted_with_it(cache_path, name):
    """The manifest proves the cache, and not what somebody put beside it."""
    file = cache_path / name
    file.parent.mkdir(exist_ok=True)
    if name.endswith("link"):
        file.symlink_to(cache_path / "rows")
    else:
        file.write_text("mine")
    refusal = f"holds {name}, which belongs to no cache; move it away, then try again"
    with pytest.raises(CacheInvalid) as caught:
        rm(cache_path)
    assert str(caught.value) == f"{cache_path}: {refusal}"
    for yes in (False, True):
        (listed,) = prune(cache_path.parent, older_than=-1, yes=yes)
        assert listed.kept == refusal
    assert os.path.lexists(file)
    file.unlink()
    rm(cache_path)
    assert not cache_path.exists()


def test_a_strangers_folder_in_staging_is_listed_and_kept(tmp_path):
    for name in ("theirs", "trash-can", OTHER):
        (tmp_path / ".staging" / name).mkdir(parents=True)
    assert states(tmp_path) == {"theirs": "foreign", "trash-can": "foreign", OTHER: "incomplete"}
    kept = {found.key: found.kept for found in prune(tmp_path, incomplete_after=-1, yes=True)}
    foreign = "not a cache of coattail's; delete it yourself if it may go"
    assert kept == {"theirs": foreign, "trash-can": foreign, OTHER: ""}
    assert sorted(path.name for path in (tmp_path / ".staging").glob("*") if path.is_dir()) == ["theirs", "trash-can"]


def test_a_strangers_file_in_a_staging_folder_is_not_deleted_with_it(tmp_path):
    """What writers and pulls leave there, half written files among it, is told from what somebody put beside it."""
    identity = toys.identity(maps=(2, 2))
    with CacheWriter(tmp_path, identity, Provenance(name="toy"), 8) as writer:
        toys.fill(writer, 20)
    work = tmp_path / ".staging" / identity.key()
    (work / f".plan.json.{'0' * 32}.tmp").write_text("")
    (work / f"sealed-{'0' * 32}" / "rows").mkdir(parents=True)
    (work / f"sealed-{'0' * 32}" / "rows" / "train.parquet").write_text("")
    assert any("maps" in file.parts for file in work.rglob("*"))
    (work / "thesis.tex").write_text("mine")
    (listed,) = prune(tmp_path, incomplete_after=-1, yes=True)
    assert listed.kept == "holds thesis.tex, which coattail did not put there; move it away, then try again"
    (work / "thesis.tex").unlink()
    (listed,) = prune(tmp_path, incomplete_after=-1, yes=True)
    assert (listed.kept, work.exists()) == ("", False)


def test_a_cache_with_maps_is_removed_as_others_are(tmp_path):
    """The files of maps have longer names than those of views."""
    path = toys.make(tmp_path, toys.identity(maps=(2, 2)))
    assert ownership.foreign_files(path) == []
    rm(path)
    assert not path.exists()
