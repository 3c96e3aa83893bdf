"""Which caches there are. Reads manifests only: no zarr, no polars."""

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from cache import manifest as manifests_of
from cache.errors import CacheInvalid, CacheNotFound
from cache.manifest import Manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest in a cache's folder.

    Raises CacheNotFound where there is none, CacheInvalid where it is not one of ours or its key is not its identity's.
    """
    file = path / manifests_of.NAME
    if not file.is_file():
        raise CacheNotFound(f"{path}: no cache there (no {manifests_of.NAME}); `cache ls` lists those there are")
    if file.stat().st_size > manifests_of.LIMIT:
        raise CacheInvalid(
            f"{file}: {file.stat().st_size} bytes, at most {manifests_of.LIMIT} wanted; not a cache of ours"
        )
    try:
        found = Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "whole"
        raise CacheInvalid(f"{file}: not a manifest of format {manifests_of.FORMAT}: {where}: {first['msg']}") from None
    if found.identity.key() != found.key:
        raise CacheInvalid(
            f"{file}: key {found.key[:12]} is not that of its identity, {found.identity.key()[:12]}; it was edited"
        )
    return found


def manifests(stores: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every published cache, the newest first; a folder that is no cache is passed over."""
    folders = [file.parent for file in stores.glob(f"*/{manifests_of.NAME}")] if stores.is_dir() else []
    for folder in sorted(folders, key=lambda folder: (folder / manifests_of.NAME).stat().st_mtime, reverse=True):
        try:
            yield folder, read_manifest(folder)
        except (CacheInvalid, json.JSONDecodeError):
            continue


def published(stores: Path, key: str) -> Path | None:
    """The cache of this key, if it is there."""
    path = stores / key
    return path if (path / manifests_of.NAME).is_file() else None


def resolve(stores: Path, reference: str) -> Path:
    """A cache by its folder, its key, or the start (4 digits or more) of its key; CacheNotFound, or CacheInvalid if several."""
    if (Path(reference).expanduser() / manifests_of.NAME).is_file():
        return Path(reference).expanduser()
    folders = (
        sorted(path for path in stores.glob("*") if (path / manifests_of.NAME).is_file()) if stores.is_dir() else []
    )
    matching = [path for path in folders if len(reference) >= 4 and path.name.startswith(reference)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise CacheInvalid(f"cache {reference}: {len(matching)} caches in {stores} start so; give more digits")
    names = ", ".join(path.name[:12] for path in folders[:5]) or "none"
    raise CacheNotFound(
        f"cache {reference}: neither a cache's folder nor the start of a key in {stores}; found {names}"
    )
