"""Several publishers of one key: one wins, all end well, and that needs no lock."""

import multiprocessing
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import toy_caches as toys
from faulty_disk import Disk, Operation, watched

import cache.writer
from cache import CacheWriter, FeatureCache, Provenance, catalog

PUBLISHERS = (2, 3, 5)
ROUNDS = 8
TOY = toys.identity({"train": 12, "test": 3})


def without_locks(path, waiting):
    return nullcontext()


def compete(me: int, root: Path, barriers: dict, results) -> None:
    """Take part in every round that has a place for this process: publish at the same time as the others do."""
    os.fsync = lambda descriptor: None
    locked = cache.writer.locked
    for name, publishers, locks in rounds():
        if me >= publishers:
            continue
        cache.writer.locked = locked if locks else without_locks
        barriers[publishers].wait()
        try:
            found = toys.make(root / name, TOY, author=str(me)).name
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        results.put((name, found))


def rounds() -> list[tuple[str, int, bool]]:
    """Name, how many publishers, and whether locks lock."""
    return [
        (f"{publishers}-{locks}-{number}", publishers, locks)
        for publishers in PUBLISHERS
        for locks in (True, False)
        for number in range(ROUNDS)
    ]


def test_publishers_race_one_wins_and_all_end_well(memory):
    context = multiprocessing.get_context("spawn")
    barriers, results = {count: context.Barrier(count) for count in PUBLISHERS}, context.Queue()
    processes = [context.Process(target=compete, args=(me, memory, barriers, results)) for me in range(max(PUBLISHERS))]
    for process in processes:
        process.start()
    found = [results.get(timeout=200) for _ in range(sum(publishers for _, publishers, _ in rounds()))]
    for process in processes:
        process.join()
    assert {key for _, key in found} == {TOY.key()}
    whole = toys.snapshot(toys.make(memory / "alone", TOY))
    for name, publishers, _ in rounds():
        opened = FeatureCache.open(memory / name / TOY.key())
        assert int(opened.manifest.provenance.author) < publishers
        same = {file: content for file, content in toys.snapshot(opened.path).items() if file != "manifest.json"}
        assert same == {file: content for file, content in whole.items() if file != "manifest.json"}
        assert [one.state for one in catalog.ls(memory / name) if one.state != "incomplete"] == ["published"]


def operations(root: Path) -> int:
    """How many an extraction has."""
    with watched(Disk(root)) as disk:
        toys.make(root, TOY)
    return len(disk.operations)


@pytest.mark.parametrize("much", ["everything", "some shards"])
def test_another_does_it_between_any_two_operations(memory, monkeypatch, much):
    """Without locks: one publisher stands still before each of its operations while another does all, or a part, of the work."""
    (memory / "recorded").mkdir()
    monkeypatch.setattr(cache.writer, "locked", without_locks)
    for number in range(operations(memory / "recorded")):
        stores = memory / str(number)
        stores.mkdir()

        def between(found: int, operation: Operation, number: int = number, stores: Path = stores) -> None:
            if found != number:
                return
            with CacheWriter(stores, TOY, Provenance(name="other"), rows_per_chunk=8) as writer:
                toys.fill(writer, None if much == "everything" else 2)
                if much == "everything":
                    writer.publish()

        with watched(Disk(stores, between)):
            path = toys.make(stores, TOY)
        assert toys.snapshot(path).keys() == toys.snapshot(memory / "recorded" / TOY.key()).keys()
        FeatureCache.open(path).features("train")
        assert [one.state for one in catalog.ls(stores) if one.state != "incomplete"] == ["published"]
