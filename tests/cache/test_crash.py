"""A reader sees a whole cache or none, wherever the writer was killed or the power went; the same command goes on."""

import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import toy_caches as toys
from faulty_disk import Disk, Operation, in_a_fork, killing, strays, watched
from power_loss import Power, lay_out

from cache import CacheWriter, FeatureCache, Identity, Provenance, catalog, prune

Work = Callable[[Path], object]

TOY = toys.identity({"train": 20, "test": 10})
SHARDS = 3 + 3 + 2
PAIR = toys.identity({"train": 12}, views=0)


def extract(stores: Path) -> int:
    """The whole extraction; how many shards were written."""
    return extract_part(stores, TOY, 0, 1)


def extract_half(stores: Path, worker: int = 0) -> int:
    """What one of two workers does, of a cache of a shard each."""
    return extract_part(stores, PAIR, worker, 2)


def extract_part(stores: Path, identity: Identity, worker: int, workers: int) -> int:
    with CacheWriter(stores, identity, Provenance(name="toy"), 8, worker, workers) as writer:
        written = toys.fill(writer)
        writer.publish_if_last()
    return written


def extract_at_once(stores: Path) -> int:
    """As an import writes: nothing is synced until all of it is, and then it is published."""
    with CacheWriter(stores, PAIR, Provenance(name="toy"), 8, at_once=True) as writer:
        written = toys.fill(writer)
        writer.publish()
    return written


def wanted(identity: Identity, folder: Path) -> dict[str, bytes]:
    """The cache that nobody interrupted."""
    extract_part(folder, identity, 0, 1)
    return toys.snapshot(folder / identity.key())


def recorded(stores: Path, work: Work) -> tuple[list[Operation], list[int]]:
    """Every operation of the work, and how many there had been when each shard was written."""
    disk, marks = Disk(stores), []
    write = CacheWriter.write

    def marking(self, shard, features):
        write(self, shard, features)
        marks.append(len(disk.operations))

    stores.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, watched(disk):
        patch.setattr(CacheWriter, "write", marking)
        work(stores)
    return disk.operations, marks


def check(stores: Path, whole: dict[str, bytes], work: Work, left: int) -> None:
    """Nothing, or all of it, is published; going on writes at most `left` shards and gives the same cache."""
    found = catalog.ls(stores)
    assert {one.state for one in found} <= {"published", "incomplete"}
    for one in found:
        if one.state == "published":
            assert toys.snapshot(Path(one.path)) == whole
    assert [path.name for path in stores.iterdir() if path.name not in {one.key for one in found}] in ([], [".staging"])
    assert work(stores) <= left
    (after,) = catalog.ls(stores)
    assert toys.snapshot(Path(after.path)) == whole
    FeatureCache.open(after.path)
    shutil.rmtree(stores)


def kill_each(root: Path, cases: list[tuple[int, bool]], work: Work) -> None:
    """The work in a fork for each case, killed there."""
    os.fsync = lambda descriptor: None
    for number, torn in cases:
        stores = root / f"{number}{'-torn' * torn}"

        def killed(stores=stores, number=number, torn=torn) -> None:
            with watched(Disk(stores, killing(number, torn))):
                work(stores)

        status = in_a_fork(killed)
        assert os.WIFSIGNALED(status), (number, torn, status)
        assert os.WTERMSIG(status) == signal.SIGKILL


def in_processes(target, parts: list[tuple]) -> None:
    """Fresh processes, without the threads of this one, that may fork."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=part) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(parts)


def killed_everywhere(root: Path, work: Work, prepare: Work) -> Iterator[tuple[Path, int]]:
    """For a kill before every operation, and one within each write: the stores it leaves, and the shards written till then."""
    prepare(root / "recorded")
    operations, marks = recorded(root / "recorded", work)
    cases = [(number, False) for number in range(len(operations))]
    cases += [(number, True) for number, operation in enumerate(operations) if operation.name == "write"]
    for number, torn in cases:
        prepare(root / f"{number}{'-torn' * torn}")
    in_processes(kill_each, [(root, cases[part::2], work) for part in range(2)])
    for number, torn in cases:
        yield root / f"{number}{'-torn' * torn}", sum(mark <= number for mark in marks)


def test_the_disk_sees_every_change(memory):
    """What follows enumerates what passes the disk, so nothing may pass it by."""
    in_processes(find_strays, [(memory / "stores", memory / "found.json")])
    assert json.loads((memory / "found.json").read_text()) == []


def find_strays(stores: Path, result: Path) -> None:
    stores.mkdir()
    result.write_text(json.dumps(strays(stores, extract)))


def test_killed_at_every_operation(memory, tmp_path):
    whole, count = wanted(TOY, tmp_path), 0
    for stores, written in killed_everywhere(memory, extract, Path.mkdir):
        check(stores, whole, extract, SHARDS - written)
        count += 1
    assert count > 30 * SHARDS


def other_half(stores: Path) -> None:
    extract_half(stores, worker=1)


def test_a_worker_killed_at_every_operation(memory, tmp_path):
    """The other one was done before: the killed one's second run is the last, and publishes."""
    whole = wanted(PAIR, tmp_path)
    for stores, written in killed_everywhere(memory, extract_half, other_half):
        check(stores, whole, extract_half, 1 - written)


def test_killed_again_and_again(memory, tmp_path):
    whole = wanted(TOY, tmp_path)
    in_processes(kill_until_done, [(memory / str(seed), seed) for seed in range(4)])
    for seed in range(4):
        check(memory / str(seed), whole, extract, 0)


def kill_until_done(stores: Path, seed: int) -> None:
    os.fsync = lambda descriptor: None
    draw = random.Random(seed)
    stores.mkdir()
    while True:
        number, torn = draw.randrange(120), draw.random() < 0.5

        def attempt(number=number, torn=torn) -> None:
            with watched(Disk(stores, killing(number, torn))):
                extract(stores)

        if not in_a_fork(attempt):
            return


def test_the_power_goes_at_every_operation(memory, tmp_path):
    """Whatever was not synced may be gone, or there in part; what was, is enough."""
    whole = wanted(TOY, tmp_path)
    operations, marks = recorded(memory / "recorded", extract)
    power, seen = Power(memory / "recorded"), set()
    for number, operation in enumerate(operations):
        power.apply(operation)
        written = sum(mark <= number + 1 for mark in marks)
        for listing in (power.worst(), power.names_only(), power.chance(number)):
            state = tuple(sorted(listing.items()))
            if state not in seen:
                seen.add(state)
                lay_out(memory / str(len(seen)), listing)
                check(memory / str(len(seen)), whole, extract, SHARDS - written)
    assert len(seen) > 20 * SHARDS


def test_what_is_synced_at_once_survives_a_kill(memory, tmp_path):
    whole = wanted(PAIR, tmp_path)
    for stores, written in killed_everywhere(memory, extract_at_once, Path.mkdir):
        check(stores, whole, extract_at_once, 2 - written)


def test_what_is_synced_at_once_is_published_whole_or_not_at_all(memory, tmp_path):
    """Where the power goes, all may have to be written again; what is published, or believed to be written, is whole."""
    whole = wanted(PAIR, tmp_path)
    operations, _ = recorded(memory / "recorded", extract_at_once)
    power, seen = Power(memory / "recorded"), set()
    for number, operation in enumerate(operations):
        power.apply(operation)
        for listing in (power.worst(), power.names_only(), power.chance(number)):
            state = tuple(sorted(listing.items()))
            if state not in seen:
                seen.add(state)
                lay_out(memory / str(len(seen)), listing)
                check(memory / str(len(seen)), whole, extract_at_once, 2)
    assert len(seen) > 30


def test_the_model_of_the_disk_is_the_disk(memory):
    """Where nothing is lost, the model holds what the real folder holds."""
    operations, _ = recorded(memory / "recorded", extract)
    power = Power(memory / "recorded")
    for operation in operations:
        power.apply(operation)
    found = {name: content for name, content in power.everything().items() if content is not None}
    assert found == toys.snapshot(memory / "recorded")


def test_what_a_killed_extraction_left_can_be_pruned(tmp_path):
    with CacheWriter(tmp_path, TOY, Provenance(name="toy"), 8) as writer:
        toys.fill(writer, 3)
        (held,) = prune.prune(tmp_path, incomplete_after=-1, yes=True)
        assert held.kept.endswith("being written; wait until the extraction is done, then try again")
    (found,) = prune.prune(tmp_path, incomplete_after=-1, yes=True)
    assert found.kept == ""
    assert catalog.ls(tmp_path) == []


def test_what_a_kill_after_publishing_left_is_pruned_at_once(tmp_path):
    extract(tmp_path)
    (tmp_path / ".staging" / TOY.key() / "data").mkdir(parents=True)
    (found,) = prune.prune(tmp_path, yes=True)
    assert (found.reason, found.kept) == ("left over; the cache is published", "")
    assert [one.state for one in catalog.ls(tmp_path)] == ["published"]
