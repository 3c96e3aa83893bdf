"""Places where caches are shared: a folder, or a bucket of an object store.

Both hold `KEY/manifest.json`. A folder has the files beside it, as `stores/` has. A bucket cannot rename, so there they lie in
`KEY/CHECKSUM/`, named by the manifest's checksum: nobody writes other bytes to a name that a manifest vouches for.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from obstore import exceptions
from obstore.store import AzureStore, GCSStore, S3Store

from cache import catalog, files, layout
from cache.bucket import BLOCK, CREDENTIALS, ENDPOINTS, Bucket, unconfigured
from cache.errors import CacheInvalid, CacheNotFound, PlaceInvalid
from cache.layout import KEY
from cache.manifest import LIMIT, Manifest

if TYPE_CHECKING:
    from obstore.store import ClientConfig, ObjectStore, RetryConfig

RETRY: "RetryConfig" = {
    "max_retries": 5,
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=4), "base": 2},
    "retry_timeout": timedelta(seconds=60),
}
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*?)/?", re.DOTALL)
_NAME = re.compile(r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._=+@-]+")


@dataclass(frozen=True)
class Offer:
    """A cache that a place has: its manifest, the bytes of it, and where its files lie. `modified`: seconds since 1970."""

    place: "Folder | Bucket"
    manifest: Manifest
    content: bytes
    home: str
    modified: float

    @property
    def where(self) -> str:
        return f"{self.place.url}/{self.manifest.key}"


@dataclass(frozen=True)
class Folder:
    """A folder of caches, such as another team's `stores/`."""

    path: Path

    @property
    def url(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """Names that may be those of caches."""
        if not self.path.is_dir():
            raise CacheNotFound(
                f"{self.path}: no such folder; `cache pull SOURCE KEY` wants the one that holds the caches"
            )
        return sorted(
            file.parent.name for file in self.path.glob(f"*/{layout.MANIFEST}") if KEY.fullmatch(file.parent.name)
        )

    def home(self, manifest: Manifest) -> str:
        """Where the files of a cache lie."""
        return manifest.key

    def read(self, name: str, limit: int) -> tuple[bytes, float]:
        """A file's bytes, at most `limit`, and when it was written."""
        path = self.path / name
        if not path.is_file():
            raise CacheNotFound(f"{path}: no such file")
        return files.read(self.path, name, limit), path.stat().st_mtime

    def blocks(self, name: str, size: int, offset: int = 0) -> Iterator[bytes]:
        """The bytes of a file of `size` bytes from `offset` on."""
        files.check(self.path, [(name, size)])
        with files.opened(self.path, name) as file:
            file.seek(offset)
            while block := file.read(BLOCK):
                yield block


def at(text: str) -> Folder | Bucket:
    """The place that a command names: a folder, or s3://, gs:// or az://BUCKET/FOLDER. Nothing is asked of it yet.

    Endpoint, region and credentials come from the usual variables, such as AWS_ENDPOINT_URL; plain http only where the
    endpoint says so. Raises PlaceInvalid for any other text.
    """
    if "://" not in text:
        folder = Path(text).expanduser()
        if folder.is_file():
            raise PlaceInvalid(f"{text}: wanted a folder of caches, found a file")
        return Folder(folder)
    match = _URL.fullmatch(text)
    scheme, bucket, path = match.groups() if match else (text.partition("://")[0], "", "")
    if scheme not in CREDENTIALS:
        raise PlaceInvalid(f"{text}: {scheme}:// is not known; wanted a folder, s3://, gs:// or az://BUCKET/FOLDER")
    if not all(_NAME.fullmatch(part) for part in [bucket, *(path.split("/") if path else [])]):
        raise PlaceInvalid(
            f"{text}: wanted {scheme}://BUCKET/FOLDER, of letters, digits and . _ = + @ - between single slashes"
        )
    url = f"{scheme}://{bucket}" + (f"/{path}" if path else "")
    endpoint = next((os.environ[name] for name in ENDPOINTS[scheme] if os.environ.get(name)), "")
    client: ClientConfig = {"allow_http": endpoint.startswith("http://"), "timeout": "60s", "connect_timeout": "5s"}
    try:
        return Bucket(url, scheme, f"{path}/" if path else "", _store(scheme, bucket, client))
    except (exceptions.BaseError, ValueError) as error:
        raise unconfigured(url, scheme, error) from None


def offer(place: Folder | Bucket, key: str) -> Offer | None:
    """The cache of a whole key, if the place has it; CacheInvalid where its manifest is not one of that key."""
    name = f"{key}/{layout.MANIFEST}"
    try:
        content, modified = place.read(name, LIMIT)
    except CacheNotFound:
        return None
    manifest = catalog.parse_manifest(content, f"{place.url}/{name}", "push the cache again from where it is whole")
    if manifest.key != key:
        raise CacheInvalid(f"{place.url}/{name}: wanted the manifest of {key[:12]}, found that of {manifest.key[:12]}")
    return Offer(place, manifest, content, place.home(manifest), modified)


def _store(scheme: str, bucket: str, client: "ClientConfig") -> "ObjectStore":
    if scheme == "s3":
        return S3Store(bucket, conditional_put="etag", client_options=client, retry_config=RETRY)
    if scheme == "gs":
        return GCSStore(bucket, client_options=client, retry_config=RETRY)
    return AzureStore(bucket, client_options=client, retry_config=RETRY)
