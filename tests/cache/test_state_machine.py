"""Any order of what users do to two folders of caches, against a plain dict of what should be there."""

import itertools
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faulty_disk import Disk, Operation, watched
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from toy_caches import expected, fill, identity, make

from cache import CacheError, CacheWriter, FeatureCache, Provenance, catalog, prune, remove
from cache.exchange.contents import read_dataset
from cache.exchange.importing import digest, write
from cache.exchange.request import Request
from cache.format.layout import MANIFEST, view_names
from cache.sharing import folder as remote_folder
from cache.sharing import offers
from cache.sharing import pull as share_pull
from cache.sharing import push as share
from cache.verify import verify

TOYS = {
    found.key(): found
    for found in (
        identity({"train": 10, "test": 3}),
        identity({"train": 10}, views=0, dtype="float32"),
        identity({"train": 9}, views=0, layer="relu"),
    )
}
KEYS = st.sampled_from(list(TOYS))
CHUNK = 4
FEATURES = np.arange(21, dtype=np.float32).reshape(7, 3) / 8
LABELS = np.array([0, 1, 2, 0, 1, 2, 0])

Arrays = dict[tuple[str, str], np.ndarray]
ARRAYS: dict[str, Arrays] = {
    key: {
        (split, view): expected(found, split, view)
        for split, one in found.splits.items()
        for view in view_names(one.views)
    }
    for key, found in TOYS.items()
}


class Killed(BaseException):
    """Nothing changes the disk after it, as after SIGKILL."""


HOUR = 4000.0
"""Seconds, after which nothing counts as being copied."""


@dataclass
class Model:
    """What a folder should hold: key -> the file that is damaged, or ""; and the names of what is half done."""

    folder: Path
    published: dict[str, str] = field(default_factory=dict)
    half: set[str] = field(default_factory=set)

    def listed(self) -> list[tuple[str, str]]:
        states = {key: "damaged" if file == MANIFEST else "published" for key, file in self.published.items()}
        return sorted([*states.items(), *((name, "incomplete") for name in self.half)])

    def add(self, key: str) -> None:
        self.published.setdefault(key, "")


class Caches(RuleBasedStateMachine):
    """`mine` is where caches are made, `team` is where they are shared."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        root.mkdir()
        self.mine, self.team, self.arrays = Model(root / "mine"), Model(root / "team"), dict(ARRAYS)
        self.source = root / "own.npz"
        np.savez(self.source, features=FEATURES, labels=LABELS)

    def writer(self, key: str) -> CacheWriter:
        return CacheWriter(self.mine.folder, TOYS[key], Provenance(name="toy"), rows_per_chunk=CHUNK)

    @rule(key=KEYS)
    def extract(self, key: str) -> None:
        """From the start, or on from wherever an earlier one stopped."""
        make(self.mine.folder, TOYS[key], CHUNK)
        self.mine.add(key)
        self.mine.half.discard(key)

    @rule(key=KEYS, shards=st.integers(0, 3))
    def extract_a_part(self, key: str, shards: int) -> None:
        with self.writer(key) as writer:
            fill(writer, shards)
        if key not in self.mine.published:
            self.mine.half.add(key)

    @rule(key=KEYS, number=st.integers(0, 150), torn=st.booleans())
    def kill_an_extraction(self, key: str, number: int, torn: bool) -> None:
        def before(found: int, operation: Operation) -> bool | None:
            half = torn and found == number and operation.name == "write"
            if found >= number and not half:
                raise Killed
            return False if half else None

        try:
            with watched(Disk(self.mine.folder, before)):
                make(self.mine.folder, TOYS[key], CHUNK)
        except Killed:
            pass
        if catalog.published(self.mine.folder, key):
            self.mine.add(key)
        half = self.mine.folder / catalog.STAGING / key
        (self.mine.half.add if half.exists() else self.mine.half.discard)(key)

    @rule()
    def import_arrays(self) -> None:
        digested = digest(read_dataset(Request((("train", self.source),))))
        key = digested.identity.key()
        self.arrays[key] = {("train", "clean"): FEATURES.astype(digested.identity.dtype)}
        try:
            write(self.mine.folder, digested, Provenance(name="own"))
        except CacheError:
            assert self.mine.published[key] != ""
        else:
            assert self.mine.published.get(key, "") == ""
        self.mine.add(key)

    @precondition(lambda self: self.mine.published)
    @rule(data=st.data())
    def push(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.mine.published)))
        self.transfer(key, self.mine, self.team, lambda: share.push(self.mine.folder / key, self.place).state)

    @precondition(lambda self: self.team.published)
    @rule(data=st.data())
    def pull(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.team.published)))
        self.transfer(
            key, self.team, self.mine, lambda: share_pull.pull(share_pull.find(self.place, key), self.mine.folder).state
        )

    @property
    def place(self) -> remote_folder.Folder:
        return remote_folder.Folder(self.team.folder)

    def transfer(self, key: str, source: Model, target: Model, act) -> None:
        """It arrives if it is sound, also in place of a damaged one; stays if it was there; is refused if it is damaged."""
        part = f"{key}.pull"
        try:
            state = act()
        except CacheError:
            assert source.published[key]
            if (target.folder / catalog.STAGING / part).exists():
                assert target.published.get(key) != ""
                target.half.add(part)
            return
        assert (state in ("there", "theirs")) == (target.published.get(key) == "")
        if target.published.get(key) != "":
            assert source.published[key] == ""
            target.half.discard(part)
        target.published[key] = ""

    @precondition(lambda self: "" in {*self.mine.published.values(), *self.team.published.values()})
    @rule(data=st.data(), seed=st.integers(0, 1 << 30))
    def flip_a_bit(self, data: st.DataObject, seed: int) -> None:
        sound = [
            (model, key)
            for model in (self.mine, self.team)
            for key, file in sorted(model.published.items())
            if not file
        ]
        model, key = data.draw(st.sampled_from(sound))
        draw, folder = random.Random(seed), model.folder / key
        path = draw.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.unlink()  # another folder may have a link to the same file
        path.write_bytes(content)
        model.published[key] = path.relative_to(folder).as_posix()

    @precondition(lambda self: self.mine.published)
    @rule(data=st.data())
    def rm(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.mine.published)))
        remove.rm(self.mine.folder / key, now=time.time() + HOUR)
        del self.mine.published[key]

    @rule(mine=st.booleans(), everything=st.booleans())
    def prune(self, mine: bool, everything: bool) -> None:
        """Half extracted caches of today stay, unless asked for; what lies about beside a published one goes.

        A folder whose manifest is damaged stays: nothing proves that it is a cache.
        """
        model = self.mine if mine else self.team
        found = prune.prune(model.folder, incomplete_after=-1 if everything else 1e6, yes=True, now=time.time() + HOUR)
        unproven = {key for key, file in model.published.items() if file == MANIFEST}
        assert {one.key for one in found if one.kept} == unproven
        model.half = set() if everything else model.half - model.published.keys()

    @rule(mine=st.booleans())
    def verify(self, mine: bool) -> None:
        model = self.mine if mine else self.team
        for key, damaged in model.published.items():
            found = verify(model.folder / key, workers=1)
            assert {one.file for one in found.findings} == ({damaged} if damaged else set())

    @invariant()
    def what_is_listed_is_what_is_there(self) -> None:
        for model in (self.mine, self.team):
            found = catalog.ls(model.folder)
            assert sorted((one.key, one.state) for one in found) == model.listed()
        if self.team.folder.exists():
            found = offers.ls(self.place)
            assert sorted((one.key, one.state) for one in found) == [
                one for one in self.team.listed() if one[1] != "incomplete"
            ]

    @invariant()
    def what_is_read_is_right(self) -> None:
        for model in (self.mine, self.team):
            for key, damaged in model.published.items():
                self.read(model.folder / key, damaged)

    def read(self, path: Path, damaged: str) -> None:
        """Every view, equal to what was written; of a damaged cache, or one line that says so."""
        try:
            cache = FeatureCache.open(path)
            found = {view: cache.features(*view) for view in self.arrays[path.name]}
        except CacheError as error:
            problem = str(error)
        else:
            problem = ""
            for view, found_ND in found.items():
                np.testing.assert_array_equal(found_ND, self.arrays[path.name][view], strict=True)
        assert "\n" not in problem
        assert damaged or not problem
        assert problem or damaged != MANIFEST


def test_any_order_of_acts(memory):
    bounds = settings(
        max_examples=25,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    numbers = itertools.count()
    run_state_machine_as_test(lambda: Caches(memory / str(next(numbers))), settings=bounds)
