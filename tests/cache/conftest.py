import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_caches as toys


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fsync is for, test_crash models; waiting for a disk a thousand times proves nothing more."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    """A published toy cache, 7 + 7 + 3 shards of 8 rows."""
    return toys.make(tmp_path / "stores")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder for thousands of small files: in memory, where the machine lets one be."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)
