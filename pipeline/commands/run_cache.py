"""The cache that a finished run was made from: in stores/, a sample that ships with coattail, or where --cache says."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.options import Options

if TYPE_CHECKING:
    from cache import FeatureCache


def cache_of(folder: Path, reference: str | None) -> "FeatureCache":
    """The cache of a run folder of stage 3. Raises DataError where it is not at hand, LineageError for another one."""
    from pipeline.artefacts.folders import read_result
    from pipeline.stage3_record import RetrainResult

    return cache_of_key(read_result(folder, RetrainResult).cache, reference)


def cache_of_key(key: str, reference: str | None) -> "FeatureCache":
    """The cache of this key: the one that `reference` names, or one in stores/, or a sample."""
    from cache import FeatureCache, catalog
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import available, sample_path
    from pipeline.errors import DataError, LineageError

    if reference is not None:
        opened = opened_cache(reference)
        if opened.key != key:
            raise LineageError(
                f"--cache {reference}: is {opened.key[:12]}, wanted {key[:12]}, which the run was made from"
            )
        return opened
    samples: Iterable[Path] = (sample_path(name) for name in available())
    path = catalog.published(stores_folder(), key)
    path = path or next((path for path in samples if catalog.read_manifest(path).key == key), None)
    if path is None:
        raise DataError(f"cache {key[:12]}: not in {stores_folder()}; name its folder with --cache")
    return FeatureCache.open(path)


def opened_cache(reference: str) -> "FeatureCache":
    """The cache that a reference names, a sample's name included."""
    from pipeline.artefacts.folders import stores_folder
    from pipeline.commands.which_cache import available, resolved_with_cache, sample_path

    reference = str(sample_path(reference)) if reference in available() else reference
    return resolved_with_cache(Options(), reference, stores_folder())[1]
