"""Each check of a folder says what it found, and a file system that does not do what a cache needs is told apart."""

import errno
import os
import shutil
from collections import namedtuple

import pytest

from cache.disk import doctor

Usage = namedtuple("Usage", "total used free")


def checks(folder, name="stores"):
    return {check.name.removeprefix(f"{name} "): check for check in doctor.folder_checks(name, folder)}


def test_a_sound_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 8 << 30))
    monkeypatch.setattr(doctor, "file_system", lambda path: "ext4")
    found = checks(tmp_path / "not" / "yet")
    assert {name: (check.state, check.found) for name, check in found.items()} == {
        "stores": ("ok", f"{tmp_path}/not/yet: writable; not there yet"),
        "space": ("ok", "8.0 GiB free"),
        "file system": ("ok", "ext4"),
        "fsync": ("ok", "files and folders are synced"),
        "locks": ("ok", "a lock is held against others"),
        "hard links": ("ok", "files are created once, by a hard link"),
        "rename": ("ok", "a cache appears in one step"),
    }
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = doctor.folder_checks("stores", tmp_path / "file" / "stores")
    assert (found.state, found.found, found.remedy) == (
        "fail",
        f"{tmp_path}/file/stores: cannot be written ({tmp_path}/file is a file)",
        "make it writable, or set COATTAIL_STORES to a folder that is",
    )


@pytest.mark.parametrize(
    ("free", "state", "remedy"),
    [
        (50 << 20, "fail", "free space, or set COATTAIL_RUNS to another disk"),
        (2 << 30, "warn", "`cache prune` lists what can go"),
        (5 << 30, "ok", ""),
    ],
)
def test_space(tmp_path, monkeypatch, free, state, remedy):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    found = checks(tmp_path, "runs")["space"]
    assert (found.state, found.remedy) == (state, remedy)


def test_no_inodes(tmp_path, monkeypatch):
    full = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*full[:5], 100, 0, 0, *full[8:])))
    found = checks(tmp_path)["space"]
    assert (found.state, found.found.partition(", ")[2]) == ("fail", "but no inodes")


@pytest.mark.parametrize(
    ("inside", "kind", "state"),
    [
        ("", "ext4", "ok"),
        ("team disk", "nfs4", "ok"),
        ("team disk/scratch", "tmpfs", "warn"),
        ("team", "ext4", "ok"),
        ("hidden", "overlay", "warn"),
    ],
)
def test_the_kind_of_file_system(tmp_path, monkeypatch, inside, kind, state):
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    mounts = [
        ("/", "ext4"), (f"{tmp_path}/team disk", "nfs4"), (f"{tmp_path}/team disk/scratch", "tmpfs"),
        (f"{tmp_path}/hidden", "ext4"), (f"{tmp_path}/hidden", "overlay"),
    ]  # fmt: skip
    table = tmp_path / "mounts"
    table.write_text("".join(f"dev {where.replace(' ', chr(92) + '040')} {of} rw 0 0\n" for where, of in mounts))
    monkeypatch.setattr(doctor, "MOUNTS", table)
    assert doctor.file_system(tmp_path / inside) == kind
    assert checks(tmp_path / inside)["file system"].state == state


def test_no_mount_table(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MOUNTS", tmp_path / "none")
    assert checks(tmp_path)["file system"].found == "unknown"


def _refuse(number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize(
    ("call", "substitute", "name", "state", "found"),
    [
        ("os.fsync", _refuse(errno.EIO), "fsync", "fail", "fsync failed (Input/output error)"),
        ("os.link", _refuse(errno.EPERM), "hard links", "ok", "none (Operation not permitted); a rename is used instead"),
        ("cache.disk.doctor.fcntl.flock", _refuse(errno.ENOLCK), "locks", "warn", "none (No locks available): "),
        ("cache.disk.doctor.fcntl.flock", lambda *_: None, "locks", "warn", "a held lock is given to another: "),
    ],
)  # fmt: skip
def test_a_file_system_that_lacks_something(tmp_path, monkeypatch, call, substitute, name, state, found):
    monkeypatch.setattr(call, substitute)
    check = checks(tmp_path)[name]
    monkeypatch.undo()
    assert check.state == state
    assert check.found.startswith(found)
    assert list(tmp_path.iterdir()) == []


def test_a_rename_that_replaces_a_folder(tmp_path, monkeypatch):
    rename = os.rename

    def careless(source, target):
        shutil.rmtree(target, ignore_errors=True)
        rename(source, target)

    monkeypatch.setattr(os, "rename", careless)
    found = checks(tmp_path)["rename"]
    assert (found.state, found.found) == ("fail", "a rename replaces a folder that is not empty")


@pytest.mark.parametrize(
    ("mask", "state"), [(0o002, "ok"), (0o022, "ok"), (0o027, "ok"), (0o077, "warn"), (0o010, "warn")]
)
def test_the_umask(mask, state):
    before = os.umask(mask)
    try:
        found = doctor.umask_check()
        assert (found.state, found.found[:4], os.umask(mask)) == (state, f"{mask:04o}", mask)
    finally:
        os.umask(before)
