"""SOURCES: name -> loader."""

from collections.abc import Callable
from functools import partial

from pipeline.images.sources.embedded import load_cifar, load_digits
from pipeline.images.sources.folder import load_folder
from pipeline.images.sources.list_file import load_list
from pipeline.images.sources.parquet import load_parquet
from pipeline.images.sources.source import Source
from pipeline.settings.stage1 import Data

DATASETS: dict[str, Callable[[Data], Source]] = {
    "digits": load_digits,
    "parquet": load_parquet,
    "cifar10": partial(load_cifar, "CIFAR10"),
    "cifar100": partial(load_cifar, "CIFAR100"),
    "folder": load_folder,
    "list": load_list,
}
