"""Where images come from. SOURCES: the value of `data.source` -> the function that loads it."""

from collections.abc import Callable
from functools import partial

from pipeline.errors import ConfigError
from pipeline.images.sources.arrays import load_arrays
from pipeline.images.sources.embedded import load_cifar, load_digits
from pipeline.images.sources.folder import load_folder
from pipeline.images.sources.list_file import load_list
from pipeline.images.sources.parquet import load_parquet
from pipeline.images.sources.published import load_inaturalist, load_published_lists
from pipeline.images.sources.source import Source
from pipeline.images.sources.table import load_table
from pipeline.images.sources.webdataset import load_webdataset
from pipeline.settings.stage1 import Data

SOURCES: dict[str, Callable[[Data], Source]] = {
    "digits": load_digits,
    "parquet": load_parquet,
    "cifar10": partial(load_cifar, "CIFAR10"),
    "cifar100": partial(load_cifar, "CIFAR100"),
    "folder": load_folder,
    "list": load_list,
    "table": load_table,
    "npz": load_arrays,
    "webdataset": load_webdataset,
    "inaturalist": load_inaturalist,
    "imagenet-lt": load_published_lists,
    "places-lt": load_published_lists,
}


def load_source(data: Data) -> Source:
    """Class names and splits of the source that the settings name. Raises ConfigError for one that is not here."""
    if data.source not in SOURCES:
        raise ConfigError(f"data.source: wanted one of {', '.join(SOURCES)}, found {data.source!r}")
    return SOURCES[data.source](data)
