"""Disks that do not take what they should: one line, earlier shards kept, nothing published, and the same command goes on."""

import errno
import os
import stat

import pytest
import toy_caches as toys
from faulty_disk import Disk, Operation, watched

from cache import CacheWriter, FeatureCache, Provenance, catalog
from cache.disk import durable
from cache.errors import CacheStorage

TOY = toys.identity({"train": 12, "test": 3})
SHARDS = 2 + 2 + 1
ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO)
SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def extract(stores) -> int:
    """The whole extraction; how many shards were written."""
    with CacheWriter(stores, TOY, Provenance(name="toy"), rows_per_chunk=8) as writer:
        written = toys.fill(writer)
        writer.publish()
    return written


@pytest.fixture
def operations(memory) -> list[Operation]:
    """Those of an extraction that nothing stops."""
    (memory / "whole").mkdir()
    with watched(Disk(memory / "whole")) as disk:
        extract(memory / "whole")
    return disk.operations


def failing(number: int, code: int, from_there_on: bool):
    """The operation of this number fails; with `from_there_on` all later ones too, as on a disk that stays full."""

    def before(found: int, operation: Operation) -> None:
        # A full disk still takes deletions.
        if operation.name in ("unlink", "rmdir") and code in SPACE:
            return
        if found == number or (from_there_on and found > number):
            raise OSError(code, os.strerror(code), str(operation.paths[0]))

    return before


@pytest.mark.parametrize("from_there_on", [False, True], ids=["once", "stays"])
def test_every_operation_may_fail(memory, operations, from_there_on):
    """A failure is one line that names a path, the reason and a remedy, or it is got round; both end in the same cache."""
    whole = toys.snapshot(memory / "whole" / TOY.key())
    failed = 0
    for number in range(len(operations)):
        stores = memory / str(number)
        code = ERRORS[number % len(ERRORS)]
        stores.mkdir()
        caught = None
        try:
            with watched(Disk(stores, failing(number, code, from_there_on))):
                extract(stores)
        except CacheStorage as error:
            caught = error
        if caught is not None:
            failed += 1
            text = str(caught)
            assert text.startswith(str(stores)), text
            assert f": cannot be written ({os.strerror(code)}); " in text
            assert text.endswith(", then run the same command again")
            assert "\n" not in text
            assert caught.errno == code
        path = stores / TOY.key()
        if path.exists():
            assert toys.snapshot(path) == whole
        assert not [one for one in catalog.ls(stores) if one.state == "damaged"]
        extract(stores)
        assert toys.snapshot(path) == whole
    assert failed > len(operations) // 2


def test_what_was_written_before_a_full_disk_is_kept(memory, operations):
    for number in range(0, len(operations), 7):
        stores, marks = memory / str(number), []
        stores.mkdir()
        with watched(Disk(stores, failing(number, errno.ENOSPC, True))):
            writer = CacheWriter(stores, TOY, Provenance(name="toy"), rows_per_chunk=8)
            write = writer.write

            def marking(shard, features, write=write, marks=marks):
                write(shard, features)
                marks.append(shard)

            writer.write = marking
            try:
                with writer:
                    toys.fill(writer)
                    writer.publish()
            except CacheStorage:
                assert not (stores / TOY.key()).exists()
        assert extract(stores) <= SHARDS - len(marks)


def test_large_contents_are_handed_on_in_pieces(tmp_path):
    """Linux takes five times the processor time for one write of 6 MB."""
    content = bytes(range(256)) * (10 << 10)
    disk = Disk(tmp_path)
    with watched(disk):
        durable.replace(tmp_path / "file", content)
    sizes = [len(operation.content) for operation in disk.operations if operation.name == "write"]
    assert (sum(sizes), max(sizes)) == (len(content), durable.WRITTEN_AT_ONCE)
    assert (tmp_path / "file").read_bytes() == content


def test_short_writes_are_completed(memory, operations):
    """An operating system may take fewer bytes than it was given."""

    def short(number: int, operation: Operation) -> bool:
        return operation.name != "write"

    (memory / "short").mkdir()
    with watched(Disk(memory / "short", short)) as disk:
        extract(memory / "short")
    assert len(disk.operations) > len(operations)
    assert toys.snapshot(memory / "short" / TOY.key()) == toys.snapshot(memory / "whole" / TOY.key())


@pytest.mark.parametrize("operation", ["link", "fsync of a folder", "flock"])
def test_a_file_system_without(memory, operations, monkeypatch, operation):
    """Hard links, syncs of folders and locks are not everywhere; the cache is the same."""

    def lacking(number: int, found: Operation) -> None:
        missing = found.name == "link" if operation == "link" else found.name == "fsync" and found.paths[0].is_dir()
        if missing and operation != "flock":
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def no_locks(descriptor: int, flags: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if operation == "flock":
        monkeypatch.setattr("fcntl.flock", no_locks)
    with watched(Disk(memory / "lacking", lacking)):
        extract(memory / "lacking")
    assert toys.snapshot(memory / "lacking" / TOY.key()) == toys.snapshot(memory / "whole" / TOY.key())


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_modes_are_what_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        with CacheWriter(tmp_path / "stores", TOY, Provenance(name="toy"), rows_per_chunk=8) as writer:
            toys.fill(writer)
            staged = list((tmp_path / "stores").rglob("*"))
            modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in staged}
            path = writer.publish()
    finally:
        os.umask(before)
    modes |= {(one.is_dir(), stat.S_IMODE(one.stat().st_mode)) for one in path.rglob("*")}
    assert modes == {(True, 0o777 & ~umask), (False, 0o666 & ~umask)}


def test_a_folder_that_may_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheStorage) as caught:
        extract(tmp_path / "file")
    assert str(caught.value) == (
        f"{tmp_path}/file/.staging: cannot be written (File exists); "
        "set COATTAIL_STORES or COATTAIL_RUNS to a folder, then run the same command again"
    )


def test_a_published_cache_is_read_from_a_folder_that_may_not_be_written(memory):
    path = toys.make(memory / "stores", TOY)

    def read_only(number: int, operation: Operation) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with watched(Disk(memory / "stores", read_only)):
        assert FeatureCache.open(path).features("train").shape == (12, toys.WIDTH)
