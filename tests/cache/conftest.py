from pathlib import Path

import pytest
import toy_caches as toys


@pytest.fixture
def cache_path(tmp_path: Path) -> Path:
    """A published toy cache, 7 + 7 + 3 shards of 8 rows."""
    return toys.make(tmp_path / "stores")
