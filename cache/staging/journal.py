"""The journal of a staging folder: the shards that are written, a line each. A line is written after the shard's bytes."""

import hashlib
import json
from pathlib import Path

from cache.disk import durable
from cache.format import layout
from cache.manifest import Entry

ShardKey = tuple[str, str, int]
"""A shard by its split, its view, and its number in the view."""


class Journal:
    """The journals of all workers, of whom each writes a file of its own. `done` maps a shard to its file, size and sha256."""

    def __init__(self, work: Path, data: Path, worker: int) -> None:
        self.done: dict[ShardKey, Entry] = {}
        self._work, self._data = work, data
        self._own = work / f"journal-{worker}.jsonl"

    def add(self, shard: ShardKey, file: str, content: bytes, crc32c: str, sync: bool = True) -> None:
        """Record a shard whose bytes are in their file."""
        entry = Entry(file=file, size=len(content), sha256=hashlib.sha256(content).hexdigest(), crc32c=crc32c)
        split, view, index = shard
        fresh = not self._own.exists()
        if fresh or not _ends_with_a_line(self._own):
            durable.append(self._own, "", sync)  # ends a line that was cut off
        durable.append(
            self._own, json.dumps({"split": split, "view": view, "index": index, **entry.model_dump()}), sync
        )
        if fresh and sync:
            durable.sync_folder(self._work)
        self.done[shard] = entry

    def read(self) -> None:
        """Read which shards any worker has written.

        A line that was cut off does not count, nor one whose file has another size or sha256.
        """
        for journal in sorted(self._work.glob("journal-*.jsonl")):
            for text in journal.read_bytes().splitlines():
                try:
                    line = json.loads(text)
                    shard = (line.pop("split"), line.pop("view"), line.pop("index"))
                    entry = Entry.model_validate(line)
                    path = self._data / entry.file
                    if self.done.get(shard) == entry or layout.chunk_of(entry.file) != shard:
                        continue
                    array = self._data / layout.array_file(shard[0], shard[1])
                    if (
                        array.is_file()
                        and path.is_file()
                        and path.stat().st_size == entry.size
                        and durable.sha256(path) == entry.sha256
                    ):
                        self.done[shard] = entry
                except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
                    continue


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() == 0:
            return True
        file.seek(-1, 2)
        return file.read(1) == b"\n"
