"""Thousands of seeded mutations of small caches: verify names the file and the rows of each, a read never gives wrong values."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import toy_caches as toys

from cache import CacheError, CacheWriter, FeatureCache, Provenance
from cache.format import encode as arrays
from cache.format import layout
from cache.format.layout import view_names
from cache.verify import Finding, verify

CASES = 45
"""Of each kind, on each of the two caches."""
IDENTITY = toys.identity({"train": 18, "test": 10})
CHUNK = 8
GROUPS = {"features.zarr/zarr.json", "features.zarr/train/zarr.json", "features.zarr/test/zarr.json"}


@dataclass
class Damage:
    """A cache to be changed, its files as they were, and the files that must be named."""

    path: Path
    files: dict[str, bytes]
    draw: random.Random
    named: set[str] = field(default_factory=set)

    def pick(self, wanted: Callable[[str], bool] = lambda name: True) -> str:
        return self.draw.choice([name for name in self.files if wanted(name)])

    def put(self, name: str, content: bytes) -> None:
        """Other content in a file's place, which must be named if it is really another."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)
        if self.files.get(name) != content:
            self.named.add(name)

    def swap(self, one: str, other: str) -> None:
        self.put(one, self.files[other])
        self.put(other, self.files[one])


def is_chunk(name: str) -> bool:
    return layout.chunk_of(name) is not None


def flip(damage: Damage) -> None:
    name = damage.pick()
    content = bytearray(damage.files[name])
    content[damage.draw.randrange(len(content))] ^= 1 << damage.draw.randrange(8)
    damage.put(name, bytes(content))


def flip_in_a_chunk(damage: Damage) -> None:
    name = damage.pick(is_chunk)
    content = bytearray(damage.files[name])
    for _ in range(damage.draw.randint(1, 4)):
        content[damage.draw.randrange(len(content))] ^= 1 << damage.draw.randrange(8)
    damage.put(name, bytes(content))


def truncate(damage: Damage) -> None:
    name = damage.pick()
    damage.put(name, damage.files[name][: damage.draw.randrange(len(damage.files[name]))])


def extend(damage: Damage) -> None:
    name = damage.pick()
    damage.put(name, damage.files[name] + damage.draw.randbytes(damage.draw.randint(1, 9)))


def zeros(damage: Damage) -> None:
    name = damage.pick()
    damage.put(name, bytes(len(damage.files[name])))


def noise(damage: Damage) -> None:
    name = damage.pick()
    damage.put(name, damage.draw.randbytes(len(damage.files[name])))


def delete(damage: Damage) -> None:
    name = damage.pick()
    (damage.path / name).unlink()
    damage.named.add(name)


def delete_a_folder(damage: Damage) -> None:
    folder = (damage.path / damage.pick(lambda name: "/" in name)).parent
    while folder.parent != damage.path and damage.draw.random() < 0.5:
        folder = folder.parent
    shutil.rmtree(folder)
    inside = folder.relative_to(damage.path).as_posix() + "/"
    damage.named |= {name for name in damage.files if name.startswith(inside)}


def swap_chunks_of_a_view(damage: Damage) -> None:
    _swap_chunks(damage, lambda one, other: one[:2] == other[:2])


def swap_chunks_across_views(damage: Damage) -> None:
    _swap_chunks(damage, lambda one, other: one[0] == other[0] and one[1] != other[1])


def swap_chunks_across_splits(damage: Damage) -> None:
    _swap_chunks(damage, lambda one, other: one[0] != other[0])


def _swap_chunks(damage: Damage, fits: Callable[[tuple, tuple], bool]) -> None:
    places = {name: place for name in damage.files if (place := layout.chunk_of(name))}
    pairs = [(one, other) for one in places for other in places if one < other and fits(places[one], places[other])]
    damage.swap(*damage.draw.choice(pairs))


def copy_over_another_chunk(damage: Damage) -> None:
    damage.put(damage.pick(is_chunk), damage.files[damage.pick(is_chunk)])


def swap_files_of_equal_size(damage: Damage) -> None:
    sizes = [len(content) for content in damage.files.values()]
    one = damage.pick(lambda name: sizes.count(len(damage.files[name])) > 1)
    other = damage.pick(lambda name: name != one and len(damage.files[name]) == len(damage.files[one]))
    damage.swap(one, other)


def swap_views(damage: Damage) -> None:
    one, other, aside = (damage.path / f"features.zarr/train/{name}" for name in ("clean", "view-01", "aside"))
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    for name, content in damage.files.items():
        swapped = name.replace("/clean/", "/ /").replace("/view-01/", "/clean/").replace("/ /", "/view-01/")
        if swapped in damage.files and damage.files[swapped] != content:
            damage.named.add(name)


def another_chunk_that_is_whole(damage: Damage) -> None:
    """Of the same array, encoded as it is, checksum and all, with other values in it."""
    name = damage.pick(is_chunk)
    split, view, index = layout.chunk_of(name)
    document = json.loads(damage.files[layout.array_file(split, view)])
    rows = min(CHUNK, IDENTITY.splits[split].rows - index * CHUNK)
    values = np.random.default_rng(damage.draw.randrange(2**32)).normal(size=(rows, IDENTITY.width))
    damage.put(name, arrays.encode(document, values.astype(IDENTITY.dtype))[0])


def edit_the_manifest(damage: Damage) -> None:
    raw = json.loads(damage.files["manifest.json"])
    change = damage.draw.choice(
        [
            lambda: raw["provenance"].update(author=str(damage.draw.random())),
            lambda: raw["identity"].update(views_seed=damage.draw.randint(1, 99)),
            lambda: raw["identity"]["classes"].reverse(),
            lambda: raw["counts"]["train"].reverse(),
            lambda: raw["counts"].update(train=[sum(raw["counts"]["train"]), 0, 0]),
            lambda: raw["inventory"].reverse(),
            lambda: raw["inventory"][damage.draw.randrange(9)].update(size=damage.draw.randrange(99)),
            lambda: raw["inventory"][damage.draw.randrange(9)].update(sha256=toys.digest(str(damage.draw.random()))),
            lambda: raw.update(rows_per_chunk=damage.draw.randint(9, 99)),
            lambda: raw.update(extra=1),
            lambda: raw.pop("counts"),
        ]
    )
    change()
    damage.put("manifest.json", (json.dumps(raw, indent=damage.draw.choice([None, 1]), ensure_ascii=False)).encode())


def edit_a_description(damage: Damage) -> None:
    name = damage.pick(lambda name: name.endswith("zarr.json"))
    raw = json.loads(damage.files[name])
    key = damage.draw.choice(sorted(raw))
    change = damage.draw.choice([{key: 7}, {"attributes": {"a": 1}}, {"shape": [10**12, 8]}, {"codecs": []}])
    content = json.dumps(raw | change).encode()
    damage.put(name, content.ljust(len(damage.files[name])))


def edit_the_rows(damage: Damage) -> None:
    split = damage.draw.choice(["train", "test"])
    frame = toys.frame(split, IDENTITY.splits[split].rows)
    change = damage.draw.choice(
        [
            lambda: frame.with_columns(label=pl.col("label").reverse()),
            lambda: frame.with_columns(label=pl.lit(damage.draw.randrange(3))),
            lambda: frame.with_columns(sample_id=pl.col("sample_id").reverse()),
            lambda: frame.head(damage.draw.randrange(len(frame))),
            lambda: frame.drop("path"),
        ]
    )
    change().write_parquet(damage.path / layout.rows_file(split))
    damage.named.add(layout.rows_file(split))


def stranger(damage: Damage) -> None:
    folder = (damage.path / damage.pick()).parent
    name = damage.draw.choice(["x", ".hidden", "0.bak", ".zarr.json.1.tmp", "manifest.json~", "c.pkl", "é"])
    (folder / name).write_bytes(damage.draw.randbytes(damage.draw.randrange(9)))
    damage.named.add((folder / name).relative_to(damage.path).as_posix())


def strange_folder(damage: Damage) -> None:
    folder = (damage.path / damage.pick()).parent / damage.draw.choice(["x", ".git", "view-02", "99", "__pycache__"])
    folder.mkdir()
    damage.named.add(folder.relative_to(damage.path).as_posix())


def strange_kind(damage: Damage) -> None:
    place = (damage.path / damage.pick()).parent / "special"
    if damage.draw.random() < 0.5:
        os.mkfifo(place)
    else:
        place.symlink_to(damage.draw.choice(["/etc/passwd", "..", "nowhere", "/"]))
    damage.named.add(place.relative_to(damage.path).as_posix())


def another_kind_in_its_place(damage: Damage) -> None:
    name = damage.pick()
    file = damage.path / name
    kind = damage.draw.choice(["link", "dangling link", "fifo", "folder"])
    if kind == "link":
        aside = damage.path.parent / "aside"
        file.replace(aside)
        file.symlink_to(aside)
    else:
        file.unlink()
        {"dangling link": lambda: file.symlink_to("nowhere"), "fifo": lambda: os.mkfifo(file), "folder": file.mkdir}[
            kind
        ]()
    damage.named.add(name)


def linked_folder(damage: Damage) -> None:
    folder = (damage.path / damage.pick(lambda name: "/" in name)).parent
    aside = damage.path.parent / "aside-folder"
    folder.rename(aside)
    folder.symlink_to(aside)
    damage.named.add(folder.relative_to(damage.path).as_posix())


def another_case(damage: Damage) -> None:
    name = damage.pick()
    (damage.path / name).rename((damage.path / name).with_name(name.rpartition("/")[2].upper() + "_"))
    damage.named.add(name)


KINDS = [
    flip, flip_in_a_chunk, truncate, extend, zeros, noise, delete, delete_a_folder,
    swap_chunks_of_a_view, swap_chunks_across_views, swap_chunks_across_splits, copy_over_another_chunk,
    swap_files_of_equal_size, swap_views, another_chunk_that_is_whole, edit_the_manifest, edit_a_description,
    edit_the_rows, stranger, strange_folder, strange_kind, another_kind_in_its_place, linked_folder, another_case,
]  # fmt: skip


def values_of(split: str, view: str, compressed: bool) -> np.ndarray:
    """What the cache holds, (N, D)."""
    features_ND = toys.expected(IDENTITY, split, view)
    if compressed:
        features_ND[:, 1:] = 0  # zstd pays, and still no two chunks are alike
    return features_ND


def written(stores: Path, compressed: bool) -> Path:
    with CacheWriter(stores, IDENTITY, Provenance(name="toy"), rows_per_chunk=CHUNK) as writer:
        for split, one in IDENTITY.splits.items():
            writer.write_rows(split, toys.frame(split, one.rows))
            for view in view_names(one.views):
                for shard in writer.pending(split, view):
                    writer.write(shard, values_of(split, view, compressed)[shard.start : shard.stop])
        writer.write_classifier({"weight": np.ones((3, IDENTITY.width)), "bias": np.arange(3)})
        return writer.publish()


def restore(path: Path, files: dict[str, bytes]) -> None:
    """The folder as it was; only what differs is written."""
    for aside in path.parent.glob("aside*"):
        if not aside.is_dir():
            aside.unlink()
    for folder, names, others in os.walk(path, topdown=False):
        for name in [*names, *others]:
            full = Path(folder) / name
            inside = full.relative_to(path).as_posix()
            if full.is_dir() and not full.is_symlink():
                if not any(file.startswith(f"{inside}/") for file in files):
                    full.rmdir()
            elif full.is_symlink() or inside not in files or not full.is_file():
                full.unlink()
    shutil.rmtree(path.parent / "aside-folder", ignore_errors=True)
    for name, content in files.items():
        file = path / name
        if not file.is_file() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def reads(path: Path, compressed: bool) -> str:
    """Everything that the cache gives is right ("right"), or it refuses with one line ("refused")."""
    try:
        cache = FeatureCache.open(path)
        for split, one in IDENTITY.splits.items():
            for view in view_names(one.views):
                np.testing.assert_array_equal(cache.features(split, view), values_of(split, view, compressed))
            assert cache.rows(split).equals(toys.frame(split, one.rows))
            assert cache.labels(split).tolist() == [row % 3 for row in range(one.rows)]
        assert cache.classifier()["weight"].tolist() == np.ones((3, IDENTITY.width)).tolist()
        assert cache.classifier()["bias"].tolist() == [0, 1, 2]
        assert (cache.classes, cache.key) == (IDENTITY.classes, IDENTITY.key())
    except CacheError as error:
        return "refused" if "\n" not in str(error) else str(error)
    return "right"


def covers(finding: Finding, name: str) -> bool:
    """The finding names the file, or a link in the place of one of its folders, and a chunk's rows."""
    if finding.file != name:
        return False
    place = layout.chunk_of(name)
    if place is None:
        return True
    split, view, index = place
    stop = min((index + 1) * CHUNK, IDENTITY.splits[split].rows)
    return (finding.split, finding.view, finding.start, finding.stop) == (split, view, index * CHUNK, stop)


@pytest.fixture(scope="module", params=["raw", "compressed"])
def whole(request, tmp_path_factory) -> tuple[Path, dict[str, bytes], bool]:
    compressed = request.param == "compressed"
    path = written(tmp_path_factory.mktemp("stores"), compressed)
    assert b'"zstd"' in (path / "features.zarr/train/clean/zarr.json").read_bytes() or not compressed
    assert reads(path, compressed) == "right"
    return path, toys.snapshot(path), compressed


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_mutation_goes_unnoticed(whole, kind):
    path, files, compressed = whole
    changed = 0
    for case in range(CASES):
        damage = Damage(path, files, random.Random(f"{kind.__name__} {case}"))
        try:
            kind(damage)
            changed += bool(damage.named)
            if damage.named:
                findings = verify(path, workers=1).findings
                unnamed = {name for name in damage.named if not any(covers(one, name) for one in findings)}
                if "manifest.json" in damage.named:  # nothing can be said of the others without it
                    unnamed = {"manifest.json"} & unnamed
                assert not unnamed, f"case {case}: {unnamed} not named in {[str(one) for one in findings]}"
            outcome = reads(path, compressed)
            if not damage.named or kind in (stranger, strange_folder, strange_kind):
                assert outcome == "right", f"case {case}"
            elif not damage.named <= GROUPS:  # a read looks at their size only, no value comes from them
                assert outcome == "refused", f"case {case}: {damage.named}"
        finally:
            restore(path, files)
    assert changed > CASES // 2
    assert toys.snapshot(path) == files


def test_quick_sees_the_inventory_and_a_subset_its_part(whole):
    path, files, _ = whole
    draw = random.Random(0)
    chunks = [name for name in files if is_chunk(name)]
    for name in chunks:
        content = bytearray(files[name])
        content[draw.randrange(len(content))] ^= 1
        (path / name).write_bytes(content)
        assert verify(path, "quick").sound
        seen = [verify(path, subset=(part, 5), workers=1).findings for part in range(1, 6)]
        assert sorted(len(findings) for findings in seen) == [0, 0, 0, 0, 1]
        (path / name).write_bytes(files[name][:-1])
        assert [one.file for one in verify(path, "quick").findings] == [name]
        restore(path, files)
    assert verify(path).sound
