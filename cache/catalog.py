"""The caches in a folder of caches, such as `stores/`: listing them, and finding one by name.

Only manifests are read, and the names and sizes of files. So neither zarr nor polars is imported.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from cache import manifest, ownership
from cache.disk import opening
from cache.errors import CacheCorrupt, CacheError, CacheInvalid, CacheNotFound
from cache.format import layout
from cache.listing import Listing, State
from cache.manifest import Manifest

STAGING = ".staging"
LOCAL = ".local"
"""Where `cache.mapped` keeps its copies."""
DECODED = ".decoded"
"""Where decoded images are kept, a folder for those of one split; no caches, but as large."""
CANDIDATES = 5
"""How many of the caches that an ambiguous name may mean are listed in the error."""
PROOF_BYTES = 64 << 20
"""The largest cache of which every byte is compared before work is called done already; that takes tenths of a second."""
UNPUBLISHED: dict[str, State] = {STAGING: "incomplete", LOCAL: "local", DECODED: "decoded"}


def read_manifest(path: Path) -> Manifest:
    """The manifest in a cache's folder.

    Raises CacheNotFound where there is no manifest. Raises CacheInvalid where coattail did not write it, where a bit of it
    was changed, and where the folder is called by the key of another cache.
    """
    file = path / manifest.NAME
    if not file.is_file():
        raise CacheNotFound(f"{path}: no cache there (no {manifest.NAME}); `cache ls` lists those there are")
    parsed = parse_manifest(opening.read(path, manifest.NAME, manifest.LIMIT), str(file))
    for name in ownership.names(path):
        if layout.KEY.fullmatch(name) and name != parsed.key:
            problem = f"wanted the manifest of {name[:12]}, as the folder is called, found that of {parsed.key[:12]}"
            raise CacheInvalid.about(file, problem, f"rename the folder to {parsed.key}, or delete it")
    return parsed


def parse_manifest(content: bytes, where: str, remedy: str = opening.AGAIN) -> Manifest:
    """The manifest in these bytes. Raises CacheInvalid, which names `where` and the remedy, for bytes that are none."""
    try:
        return manifest.parse(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])[:100] or "whole"
        reason = f"{field}: {first['msg'].removeprefix('Value error, ')}"
    except (ValueError, AttributeError, TypeError) as error:
        reason = str(error)
    raise CacheInvalid.about(where, f"not a manifest of format {manifest.FORMAT}: {reason}", remedy)


def refuse_other_key(path: Path) -> None:
    """Raise CacheInvalid where the folder holds the manifest of another key. A manifest that cannot be read is passed over."""
    try:
        parse_manifest(opening.read(path, manifest.NAME, manifest.LIMIT), str(path))
    except CacheError:
        return
    read_manifest(path)


def manifests(stores: Path) -> Iterator[tuple[Path, Manifest]]:
    """The folder and manifest of every published cache, the newest first. Other folders and damaged caches are passed over."""
    for folder in sorted(_folders(stores), key=_modified, reverse=True):
        try:
            yield folder, read_manifest(folder)
        except (CacheInvalid, CacheNotFound):
            continue


def ls(stores: Path) -> list[Listing]:
    """The published caches, the newest first, then all other folders: incomplete, damaged, foreign, local and decoded ones.

    A cache counts as published where its files have the sizes that its manifest lists. No other file than the manifest is
    read.
    """
    listings = [describe(folder) for folder in _folders(stores)]
    for inside, state in UNPUBLISHED.items():
        for folder in (stores / inside).glob("*"):
            if folder.is_dir():
                kind: State = state if ownership.is_own_name(folder.name) else "foreign"
                listings.append(Listing(folder.name, str(folder), kind, _bytes(folder), _modified(folder)))
    listings = [listing for listing in listings if Path(listing.path).is_dir()]  # some may be gone meanwhile
    return sorted(listings, key=lambda listing: (listing.state != "published", -listing.modified))


def describe(folder: Path) -> Listing:
    """The listing of one folder, by its manifest and by the names and sizes of its files."""
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
    return Listing.of(manifest, str(folder), modified)


def check(folder: Path, manifest: Manifest) -> None:
    """Raise CacheCorrupt or CacheInvalid unless every file that the manifest lists is there with its size."""
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


def published(stores: Path, key: str) -> Path | None:
    """The folder of the cache of this key, or None. The manifest is written last, so that its file proves the others."""
    path = stores / key
    return path if (path / manifest.NAME).is_file() else None


def resolve(stores: Path, reference: str) -> Path:
    """The folder of the cache that a user named: by its folder, its key, or the first digits of its key, 4 or more.

    FOLDER/KEY looks in that folder, and not in `stores`. Raises CacheNotFound where no cache fits, and CacheInvalid where
    several do or where the reference is the address of a bucket.
    """
    if "://" in reference:
        place, _, key = reference.rstrip("/").rpartition("/")
        raise CacheInvalid(
            f"cache {reference}: wanted a cache on this machine, found the address of one in a bucket; "
            f"run `cache pull {place} {key[:12]}` first, then name it {key[:12]}"
        )
    path = ownership.expanded(reference)
    if path.name in ("", ".."):  # "." has no name, but a cache's folder is known by its name
        path = path.resolve()
    if is_cache(path):
        return path
    if path.parent != Path():
        stores, reference = path.parent.absolute(), path.name
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
    """The text of the error for a start that several keys share. It lists some, with as many digits as tell them apart."""
    digits = 12
    while len({key[:digits] for key in keys}) < len(set(keys)):
        digits += 1
    shown = ", ".join(key[:digits] for key in keys[:CANDIDATES]) + (", …" if len(keys) > CANDIDATES else "")
    return f"cache {reference}: {len(keys)} caches in {place} start so ({shown}); give more digits"


def is_cache(folder: Path) -> bool:
    """Whether a folder looks like a cache: it holds a manifest, or its name is a key. `describe` looks closer."""
    named = layout.KEY.fullmatch(folder.name) is not None and folder.is_dir()
    return named or (folder / manifest.NAME).is_file()


def _folders(stores: Path) -> list[Path]:
    return [folder for folder in stores.glob("*") if is_cache(folder)] if stores.is_dir() else []


def _modified(folder: Path) -> float:
    """When the manifest, or a folder without one, was changed, in seconds since 1970; 0 where the folder is gone."""
    for path in (folder / manifest.NAME, folder):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    size = 0
    for inside, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                size += os.lstat(os.path.join(inside, name)).st_size
    return size
