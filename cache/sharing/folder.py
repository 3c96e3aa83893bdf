"""A folder in which caches are shared, such as another team's `stores/`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cache.disk import opening
from cache.errors import CacheNotFound, CacheUnlisted
from cache.format import layout
from cache.format.layout import KEY
from cache.manifest import Manifest
from cache.sharing.bucket import BLOCK


@dataclass(frozen=True)
class Folder:
    """A folder of caches. It has the methods of a Bucket that reading needs."""

    path: Path

    @property
    def url(self) -> str:
        return str(self.path)

    def names(self, passed_over: Callable[[CacheUnlisted], None] = lambda error: None) -> list[str]:
        """The names of folders that may be caches. A folder can list any name, so that none goes to `passed_over`."""
        if not self.path.is_dir():
            raise CacheNotFound(f"{self.path}: no such folder; name the folder that holds the caches")
        return sorted(
            file.parent.name for file in self.path.glob(f"*/{layout.MANIFEST}") if KEY.fullmatch(file.parent.name)
        )

    def home(self, manifest: Manifest) -> str:
        """The folder of a cache's files."""
        return manifest.key

    def read(self, name: str, limit: int) -> tuple[bytes, float]:
        """The bytes of a file, and when it was written, in seconds since 1970. CacheInvalid for more than `limit` bytes."""
        path = self.path / name
        if not path.is_file():
            raise CacheNotFound(f"{path}: no such file")
        return opening.read(self.path, name, limit), path.stat().st_mtime

    def blocks(self, name: str, size: int, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a file of `size` bytes, from `offset` on; at most BLOCK bytes at a time."""
        opening.check(self.path, [(name, size)])
        with opening.opened(self.path, name) as file:
            file.seek(offset)
            while block := file.read(BLOCK):
                yield block
