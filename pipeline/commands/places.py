"""Where caches are: the folder of all of them, one cache, and a place that caches are shared through. Imports no torch."""

from pathlib import Path


def cache_path(reference: str) -> Path:
    """The whole path of the cache that a folder, a key or the start of one names. Raises as `catalog.resolve` does."""
    from cache import catalog

    return catalog.resolve(stores_path(), reference).absolute()


def whole_place(place: str) -> str:
    """The place with the whole path of a folder; an address such as s3://BUCKET is whole."""
    return place if "://" in place else str(Path(place).expanduser().absolute())


def stores_path() -> Path:
    """Where caches are; imported late, for `--help` does without."""
    from pipeline.artefacts.folders import stores_folder

    return stores_folder()
