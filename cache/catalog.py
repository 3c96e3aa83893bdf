"""Which caches there are. Reads manifests only: no zarr, no polars."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from cache import manifest, ownership
from cache.disk import opening
from cache.errors import CacheCorrupt, CacheError, CacheInvalid, CacheNotFound
from cache.format import layout
from cache.manifest import Manifest

STAGING = ".staging"
LOCAL = ".local"
"""Where `cache.mapped` keeps its copies."""
CANDIDATES = 5
"""How many caches an ambiguous name is answered with."""
PROOF_BYTES = 64 << 20
"""The largest cache of which every byte is compared before work is called done already; that takes tenths of a second."""
State = Literal["published", "incomplete", "damaged", "foreign", "local"]
"""`foreign`: a folder that looks like a cache's by its name or a file, and holds something else."""
UNPUBLISHED: dict[str, State] = {STAGING: "incomplete", LOCAL: "local"}


@dataclass(frozen=True)
class Listing:
    """One line of `cache ls`. `rows` counts the samples of all splits; `bytes` what lies on the disk; `created` is ISO 8601."""

    key: str
    path: str
    state: State
    bytes: int
    modified: float
    name: str = ""
    backbone: str = ""
    rows: int = 0
    width: int = 0
    views: int = 0
    dtype: str = ""
    classes: int = 0
    created: str = ""
    author: str = ""
    problem: str = ""


def read_manifest(path: Path) -> Manifest:
    """The manifest in a cache's folder.

    Raises CacheNotFound where there is none. Raises CacheInvalid where it is not one of ours, where a bit of it was
    changed, and where the folder has the key of another cache as its name.
    """
    file = path / manifest.NAME
    if not file.is_file():
        raise CacheNotFound(f"{path}: no cache there (no {manifest.NAME}); `cache ls` lists those there are")
    parsed = parse_manifest(opening.read(path, manifest.NAME, manifest.LIMIT), str(file))
    for name in ownership.names(path):
        if layout.KEY.fullmatch(name) and name != parsed.key:
            raise CacheInvalid(
                f"{file}: wanted the manifest of {name[:12]}, as the folder is called, found that of {parsed.key[:12]}; "
                f"rename the folder to {parsed.key}, or delete it"
            )
    return parsed


def parse_manifest(content: bytes, where: str, remedy: str = opening.AGAIN) -> Manifest:
    """The manifest in these bytes; CacheInvalid, naming `where` and the remedy, for any other."""
    try:
        return manifest.parse(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])[:100] or "whole"
        reason = f"{field}: {first['msg'].removeprefix('Value error, ')}"
    except (ValueError, AttributeError, TypeError) as error:
        reason = str(error)
    raise CacheInvalid(f"{where}: not a manifest of format {manifest.FORMAT}: {reason}; {remedy}")


def refuse_other_key(path: Path) -> None:
    """Raise CacheInvalid where the folder holds the manifest of another key; one that cannot be read at all is passed over."""
    try:
        parse_manifest(opening.read(path, manifest.NAME, manifest.LIMIT), str(path))
    except CacheError:
        return
    read_manifest(path)


def manifests(stores: Path) -> Iterator[tuple[Path, Manifest]]:
    """Every published cache, the newest first; a folder that is no cache, or a damaged one, is passed over."""
    for folder in sorted(_folders(stores), key=_modified, reverse=True):
        try:
            yield folder, read_manifest(folder)
        except (CacheInvalid, CacheNotFound):
            continue


def ls(stores: Path) -> list[Listing]:
    """Every cache, the newest first, then what is half extracted, damaged, foreign, or a local copy of features.

    A cache counts as published where its files have the sizes that its manifest lists; no file but the manifest is read.
    """
    found = [describe(folder) for folder in _folders(stores)]
    for inside, state in UNPUBLISHED.items():
        works = [work for work in (stores / inside).glob("*") if work.is_dir()]
        found += [Listing(work.name, str(work), state, _bytes(work), _modified(work)) for work in works]
    found = [one for one in found if Path(one.path).is_dir()]  # some may have gone meanwhile
    return sorted(found, key=lambda one: (one.state != "published", -one.modified))


def describe(folder: Path) -> Listing:
    """The listing of one cache's folder: its manifest, and its files' names and sizes."""
    modified = _modified(folder)
    try:
        manifest = read_manifest(folder)
    except CacheError as error:
        state: State = "damaged" if ownership.is_shaped(folder) else "foreign"
        return Listing(folder.name, str(folder), state, _bytes(folder), modified, problem=str(error))
    try:
        check(folder, manifest)
    except CacheError as error:
        return Listing(manifest.key, str(folder), "damaged", _bytes(folder), modified, problem=str(error))
    return listing(manifest, str(folder), modified)


def check(folder: Path, manifest: Manifest) -> None:
    """Every file that the manifest lists is there with its size. Raises CacheCorrupt or CacheInvalid where one is not."""
    opening.check(folder, ((entry.file, entry.size) for entry in manifest.inventory))


def prove(folder: Path) -> str:
    """Compare a published cache with its manifest, before the work that would make it is called done already.

    The size of every file is compared, and every byte of a cache of at most PROOF_BYTES. Returns the line that tells a user
    that bytes were not compared, or an empty text. Raises CacheCorrupt for a file that is missing or differs, CacheInvalid
    for a link or for a manifest that is damaged.
    """
    manifest = read_manifest(folder)
    check(folder, manifest)
    if manifest.size > PROOF_BYTES:
        return (
            f"cache {manifest.key[:12]}: the sizes of its files are right; `coattail cache verify {manifest.key[:12]}` "
            "compares their bytes too"
        )
    for entry in manifest.inventory:
        if difference := opening.difference(folder, entry):
            raise CacheCorrupt(f"{folder / entry.file}: {difference}; {opening.AGAIN}")
    return ""


def listing(manifest: Manifest, path: str, modified: float) -> Listing:
    """The listing that a manifest gives."""
    identity, provenance = manifest.identity, manifest.provenance
    return Listing(
        key=manifest.key,
        path=path,
        state="published",
        bytes=manifest.size,
        modified=modified,
        name=provenance.name,
        backbone=identity.backbone,
        rows=sum(split.rows for split in identity.splits.values()),
        width=identity.width,
        views=max(split.views for split in identity.splits.values()),
        dtype=identity.dtype,
        classes=len(identity.classes),
        created=provenance.created,
        author=provenance.author,
    )


def published(stores: Path, key: str) -> Path | None:
    """The cache of this key, if it is there."""
    path = stores / key
    return path if (path / manifest.NAME).is_file() else None


def resolve(stores: Path, reference: str) -> Path:
    """A cache by its folder, its key, or the start (4 digits or more) of its key.

    FOLDER/KEY means that folder in place of `stores`. Raises CacheNotFound where there is none, and CacheInvalid where
    there are several or where the reference is the address of a bucket.
    """
    if "://" in reference:
        place, _, key = reference.rstrip("/").rpartition("/")
        raise CacheInvalid(
            f"cache {reference}: lies in a bucket, a cache of this machine is wanted; "
            f"run `cache pull {place} {key[:12]}` first, then name it {key[:12]}"
        )
    path = ownership.expanded(reference)
    if path.name in ("", ".."):  # "." has no name, and what is asked of a cache's folder is often its name
        path = path.resolve()
    if is_cache(path):
        return path
    if path.parent != Path():
        stores, reference = path.parent, path.name
    folders = sorted(_folders(stores))
    matching = [path for path in folders if len(reference) >= 4 and path.name.startswith(reference)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        raise CacheInvalid(ambiguous(reference, [path.name for path in matching], str(stores)))
    names = ", ".join(path.name[:12] for path in folders[:5]) or "none"
    raise CacheNotFound(
        f"cache {reference}: neither a cache's folder nor the start of a key in {stores}; found {names}"
    )


def ambiguous(reference: str, keys: list[str], place: str) -> str:
    """The error's text for the start of several keys: the first of them, with as many digits as tell them apart."""
    digits = 12
    while len({key[:digits] for key in keys}) < len(set(keys)):
        digits += 1
    shown = ", ".join(key[:digits] for key in keys[:CANDIDATES]) + (", …" if len(keys) > CANDIDATES else "")
    return f"cache {reference}: {len(keys)} caches in {place} start so ({shown}); give more digits"


def is_cache(folder: Path) -> bool:
    """Whether a folder looks like a cache's: it holds a manifest, or has a key as its name. What it is, `describe` says."""
    named = layout.KEY.fullmatch(folder.name) is not None and folder.is_dir()
    return named or (folder / manifest.NAME).is_file()


def _folders(stores: Path) -> list[Path]:
    return [folder for folder in stores.glob("*") if is_cache(folder)] if stores.is_dir() else []


def _modified(folder: Path) -> float:
    """When the manifest, or else the folder, was changed; 0 where both have gone."""
    for path in (folder / manifest.NAME, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    """What lies there; what goes meanwhile does not count."""
    size = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(inside, name)).st_size
    return size
