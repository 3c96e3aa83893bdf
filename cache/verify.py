"""Comparing a cache with its manifest, bit by bit. What differs is named with its file and its rows."""

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from cache import catalog, in_use
from cache.disk import opening
from cache.errors import CacheError, CacheInvalid, CacheNotFound
from cache.format import description, layout
from cache.identity import samples_digest
from cache.manifest import Entry, Manifest
from cache.reader import FeatureCache


@dataclass(frozen=True)
class Finding:
    """One file that is wrong, what is wrong with it, and the rows that it holds: `start` to `stop`, `stop` excluded."""

    file: str
    problem: str
    split: str = ""
    view: str = ""
    start: int = 0
    stop: int = 0

    def __str__(self) -> str:
        rows = (
            f" ({self.split}{'/' + self.view if self.view else ''}, rows {self.start} to {self.stop - 1})"
            if self.stop
            else ""
        )
        return f"{self.file}{rows}: {self.problem}"


@dataclass(frozen=True)
class Verification:
    """What was compared and what was wrong. `files` and `bytes` count the files that were read whole."""

    key: str
    path: str
    mode: Literal["quick", "full", "subset"]
    files: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not self.findings


def verify(
    path: Path,
    mode: Literal["quick", "full"] = "full",
    subset: tuple[int, int] | None = None,
    workers: int = 4,
    advance: Callable[[int], None] = lambda size: None,
) -> Verification:
    """Compare a cache with its manifest.

    `quick` compares the list of files and their sizes. `full` compares every byte of every file, checks that the files agree
    with each other, and that every feature is finite. `subset` (i, n) does as `full` with the i-th of n parts of the chunks,
    1 <= i <= n. `advance` is called with the size of each file that was read. A damaged or missing manifest is a finding.
    Raises CacheNotFound where there is no cache.
    """
    if subset is not None and not 1 <= subset[0] <= subset[1]:
        raise CacheInvalid(f"subset {subset[0]}/{subset[1]}: wanted I/N with 1 <= I <= N")
    path = Path(path)
    shown: Literal["quick", "full", "subset"] = "subset" if subset else mode
    try:
        manifest = catalog.read_manifest(path)
    except CacheInvalid as error:
        return Verification(path.name, str(path), shown, 0, 0, (Finding(layout.MANIFEST, error.problem or str(error)),))
    except CacheNotFound:
        if not catalog.is_cache(path) and not (path / layout.FEATURES).is_dir():
            raise
        return Verification(path.name, str(path), shown, 0, 0, (Finding(layout.MANIFEST, "missing"),))
    in_use.hold(path, manifest)
    findings = list(_listing(path, manifest))
    read: list[Entry] = []
    if shown != "quick":
        unread = {finding.file for finding in findings}
        read = [entry for entry in _part(manifest, subset) if entry.file not in unread]
        with ThreadPoolExecutor(workers) as pool:
            for entry, problem in zip(read, pool.map(lambda entry: opening.difference(path, entry), read), strict=True):
                advance(entry.size)
                findings += [_finding(manifest, entry.file, problem)] if problem else []
        if not findings:
            findings += _content(path, manifest, {entry.file for entry in read})
    findings.sort(key=lambda finding: (finding.file, finding.start))
    return Verification(manifest.key, str(path), shown, len(read), sum(entry.size for entry in read), tuple(findings))


def _listing(path: Path, manifest: Manifest) -> Iterator[Finding]:
    """Compare the files in the folder with the inventory. Links, and files that no cache has, are findings too."""
    entries = {entry.file: entry for entry in manifest.inventory}
    folders = {parent.as_posix() for file in entries for parent in Path(file).parents}
    present: set[str] = set()
    for folder, names, others in os.walk(path):
        for name in [*names, *others]:
            file = (Path(folder) / name).relative_to(path).as_posix()
            full = path / file
            if full.is_symlink():
                present.add(file)
                yield _finding(manifest, file, "a symbolic link; a cache holds plain files")
            elif name in names:
                if file not in folders:
                    yield Finding(file, "a folder that does not belong to the cache")
            elif file in entries:
                present.add(file)
                size = full.stat().st_size
                if not full.is_file():
                    yield _finding(manifest, file, "not a plain file")
                elif size != entries[file].size:
                    yield _finding(manifest, file, f"wanted {entries[file].size} bytes, found {size}")
            elif file != layout.MANIFEST:
                yield Finding(file, "a file that does not belong to the cache")
    for file in entries.keys() - present:
        yield _finding(manifest, file, "missing")


def _part(manifest: Manifest, subset: tuple[int, int] | None) -> list[Entry]:
    """The files to read: all, or a part of the chunks and all other files."""
    if subset is None:
        return list(manifest.inventory)
    part, parts = subset
    chosen = []
    for number, entry in enumerate(sorted(manifest.inventory, key=lambda entry: entry.file)):
        if layout.chunk_of(entry.file) is None or number % parts == part - 1:
            chosen.append(entry)
    return chosen


def _finding(manifest: Manifest, file: str, problem: str) -> Finding:
    """The finding about a file, with the rows that the file holds."""
    chunk = layout.chunk_of(file)
    if chunk is not None:
        split, view, index = chunk
        start = index * manifest.rows_per_file(view)
        stop = min(start + manifest.rows_per_file(view), manifest.identity.splits[split].rows)
        return Finding(file, problem, split, view, start, stop)
    for split, identity in manifest.identity.splits.items():
        if file == layout.rows_file(split):
            return Finding(file, problem, split, "", 0, identity.rows)
        for view in layout.array_names(manifest.identity, split):
            array = layout.array_file(split, view)
            if file == array or array.startswith(f"{file}/"):
                return Finding(file, problem, split, view if file == array else "", 0, identity.rows)
    return Finding(file, problem)


def _content(path: Path, manifest: Manifest, read: set[str]) -> Iterator[Finding]:
    """Check that files agree with each other. Each of them is known to be, byte for byte, the manifest's."""
    for file in [
        f"{layout.FEATURES}/zarr.json",
        *(f"{layout.FEATURES}/{split}/zarr.json" for split in manifest.identity.splits),
    ]:
        if not _is_group(path, file):
            yield Finding(file, f"not the description of a group; {opening.FOREIGN}")
    try:
        cache = FeatureCache.open(path)
        cache.classifier()
    except CacheError as error:
        yield Finding(layout.FEATURES, str(error))
        return
    for split, identity in manifest.identity.splits.items():
        yield from _rows(cache, split)
        for view in layout.array_names(manifest.identity, split):
            for index in range(layout.chunks(identity.rows, manifest.rows_per_file(view))):
                file = layout.chunk_file(split, view, index)
                if file in read:
                    yield from _chunk(cache, manifest, file)


def _is_group(path: Path, file: str) -> bool:
    try:
        document = json.loads(opening.read(path, file, layout.DOCUMENT_LIMIT))
    except (CacheError, ValueError, RecursionError):
        return False
    return document == description.group_document()


def _chunk(cache: FeatureCache, manifest: Manifest, file: str) -> Iterator[Finding]:
    whole = _finding(manifest, file, "")
    try:
        read = cache.maps if whole.view == layout.MAPS else partial(cache.slice, view=whole.view)
        read(whole.split, start=whole.start, stop=whole.stop)
    except CacheError as error:
        yield _finding(manifest, file, error.problem)


def _rows(cache: FeatureCache, split: str) -> Iterator[Finding]:
    file, identity = layout.rows_file(split), cache.manifest.identity.splits[split]
    try:
        frame = cache.rows(split)
    except CacheError as error:
        yield Finding(file, str(error), split, "", 0, identity.rows)
        return
    if samples_digest(frame["sample_id"].to_list()) != identity.samples:
        yield Finding(file, "the sample ids are not the identity's", split, "", 0, identity.rows)
    counts = np.bincount(frame["label"].to_numpy(), minlength=len(cache.classes)).tolist()
    if counts != list(cache.manifest.counts[split]):
        yield Finding(file, "the labels are not those that the manifest counts", split, "", 0, identity.rows)
