"""A cache's splits as tensors: what stages 2 and 3 read instead of images.

A split is held in RAM. Where it is larger than `ram_limit`, it is held in a local memory-mapped file instead. The same code
reads both in the same order, so the results are equal to the bit. Within `machine.device.on_device` it is moved to the device,
whole, once a training.
"""

import os
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cache import FeatureCache
from cache.mapped import mapped
from pipeline.artefacts import folders
from pipeline.coordinates import Coordinates, fit_coordinates
from pipeline.errors import DataError
from pipeline.progress import track
from pipeline.settings import Settings

BLOCK_VALUES = 1 << 20
"""Features that are taken to float32 at a time, 4 MiB: memory that is freed and taken again stays with the process."""


@dataclass(frozen=True)
class Maps:
    """The last feature maps of all stored rows, with the classifier that says which places of a map speak for a class."""

    maps_NDP: Tensor
    """In the cache's storage type, with P = h x w places."""
    weight_CD: Tensor
    """Of the stage-1 classifier, on raw features."""
    bias_C: Tensor


@dataclass(frozen=True)
class Features:
    """One split: V views of N rows, in the cache's storage type; `counts_C` are the split's rows per class."""

    features_VND: Tensor
    labels_N: Tensor
    counts_C: Tensor
    rows_N: Tensor | None = None
    """For a selection of rows: the index into `features_VND` of each of the N rows, (N,). Nothing is copied."""
    coordinates: Coordinates | None = None
    """What `gather` takes the stored features to; None leaves them as they are."""
    maps: Maps | None = None
    """The maps that the features are means of, for the augmentation that reads them."""

    @property
    def views(self) -> int:
        return self.features_VND.shape[0]

    @property
    def width(self) -> int:
        return self.features_VND.shape[2]

    def gather(self, view: Tensor | int, row: Tensor) -> Tensor:
        """Features of rows of a view, or of a view a row, float32 (…, D)."""
        return self.gather_flat(self.flat(view, row))

    def gather_flat(self, flat: Tensor) -> Tensor:
        """Features of rows by their place among all stored rows, as `flat` gives it, float32 (…, D)."""
        stored_D = take(self.features_VND.flatten(0, 1), flat)
        return stored_D.float() if self.coordinates is None else self.coordinates.apply(stored_D)

    def stored(self, view: Tensor | int, row: Tensor) -> Tensor:
        """As `gather`, in the coordinates in which features are stored."""
        return replace(self, coordinates=None).gather(view, row)

    def flat(self, view: Tensor | int, row: Tensor) -> Tensor:
        """Where rows of a view lie among all stored rows of all views: view * stored rows + row, of `row`'s shape."""
        stored = row if self.rows_N is None else self.rows_N[row]
        return view * self.features_VND.shape[1] + stored

    def by_flat(self, values_N: Tensor) -> Tensor:
        """A value a row, (N,), at the row's place in each view among all stored rows, see `flat`; 0 for rows not selected."""
        if self.rows_N is not None:
            values_N = values_N.new_zeros(self.features_VND.shape[1]).index_copy_(0, self.rows_N, values_N)
        return values_N.repeat(self.views)

    def blocks(self) -> tuple[Tensor, ...]:
        """Rows 0 to N-1 in order, `block_rows` at a time."""
        return torch.arange(len(self.labels_N)).split(self.block_rows)

    @property
    def block_rows(self) -> int:
        """Rows of BLOCK_VALUES features."""
        return max(1, BLOCK_VALUES // self.width)

    def standardised(self, by_support: bool = True) -> "Features":
        """The same rows in coordinates fitted on their clean view: no unit and no offset of the features matters.

        With `by_support` columns that differ in a few rows count less, see `fit_coordinates`.
        """
        raw = replace(self, coordinates=None)
        coordinates = fit_coordinates(lambda: (raw.gather(0, rows_B) for rows_B in raw.blocks()), by_support)
        return replace(self, coordinates=coordinates)

    def every(self) -> "Features":
        """All stored rows, whatever rows are selected. Labels and counts still belong to the selected rows."""
        return replace(self, rows_N=None)

    def select(self, rows_N: Tensor) -> "Features":
        """The same with only some rows; counts follow."""
        labels_N = self.labels_N[rows_N]
        counts_C = torch.bincount(labels_N, minlength=len(self.counts_C))
        stored_N = rows_N if self.rows_N is None else self.rows_N[rows_N]
        return replace(self, labels_N=labels_N, counts_C=counts_C, rows_N=stored_N)


def take(table_TD: Tensor, index: Tensor) -> Tensor:
    """Rows of a table: (…, D) for an index (…). `index_select` copies whole rows, several times as fast as indexing."""
    return table_TD.index_select(0, index.flatten()).view(*index.shape, -1)


def load(
    cache: FeatureCache, split: str = "train", views: bool = True, ram_limit: float = 0.0, first: int | None = None
) -> Features:
    """The split's clean view and, with `views`, its augmented ones; above `ram_limit` GiB they are memory-mapped.

    `first`: only so many of the views, the clean one first.

    0 stands for half of this machine's RAM. Raises DataError where the cache has no such split or a label is out of range,
    CacheCorrupt where a feature is damaged or not finite.
    """
    if split not in cache.splits:
        raise DataError(f"cache {cache.key[:12]}: no split {split!r}, found {', '.join(cache.splits)}")
    labels_N = torch.as_tensor(cache.labels(split))
    classes = len(cache.classes)
    if len(labels_N) == 0 or int(labels_N.min()) < 0 or int(labels_N.max()) >= classes:
        extent = "no rows" if len(labels_N) == 0 else f"{int(labels_N.min())} to {int(labels_N.max())}"
        raise DataError(f"cache {cache.key[:12]}, split {split}: labels wanted in 0 to {classes - 1}, found {extent}")
    names = cache.views(split)[:first] if views else ["clean"]
    identity = cache.manifest.identity
    shape = (len(names), len(labels_N), identity.width)
    size = int(np.prod(shape)) * np.dtype(identity.dtype).itemsize
    features_VND = _in_ram(cache, split, names, shape) if size <= _limit(ram_limit) else _mapped(cache, split, shape)
    return Features(features_VND, labels_N, torch.bincount(labels_N, minlength=classes))


def averaged_views(cache: FeatureCache, split: str, wanted: int | str) -> int:
    """How many views of each row of a split are wanted, a number or `all`. Raises DataError where there are fewer."""
    there = len(cache.views(split))
    if wanted == "all":
        return there
    if int(wanted) > there:
        raise DataError(
            f"cache {cache.key[:12]}, split {split}: wanted {wanted} views of each row, found {there}; extract again with --set "
            f"extract.test_views={wanted}, or ask for {there} with retrain.test_views or --test-views"
        )
    return int(wanted)


def _limit(ram_limit: float) -> float:
    if ram_limit:
        return ram_limit * 2**30
    if not hasattr(os, "sysconf"):  # Windows
        return float("inf")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2


def _in_ram(cache: FeatureCache, split: str, names: list[str], shape: tuple[int, int, int]) -> Tensor:
    features_VND = np.empty(shape, cache.manifest.identity.dtype)
    for view, name in enumerate(names):
        cache.features(split, name, features_VND[view])
    return torch.as_tensor(features_VND)


def _mapped(cache: FeatureCache, split: str, shape: tuple[int, int, int]) -> Tensor:
    views, rows, _ = shape
    with track(views * rows, f"copy {split}", "rows") as bar:
        features_VND = mapped(cache, split, views, folders.stores_folder(), bar.advance)
    with warnings.catch_warnings():
        # Mapped for writing, a file larger than RAM would be refused as memory that might be needed.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.as_tensor(features_VND)


def stage1_classifier(cache: FeatureCache, coordinates: Coordinates | None = None) -> tuple[Tensor, Tensor] | None:
    """The classifier that the backbone was trained with, weight (C, D) and bias (C,); None where the cache has none.

    On features in these coordinates; without them on raw ones.
    """
    arrays = cache.classifier()
    if arrays is None:
        return None
    weight_CD, bias_C = torch.as_tensor(arrays["weight"]).float(), torch.as_tensor(arrays["bias"]).float()
    return (weight_CD, bias_C) if coordinates is None else coordinates.unfold(weight_CD, bias_C)


def last_maps(cache: FeatureCache, wanted_by: str, ram_limit: float = 0.0) -> Maps:
    """The maps of the training rows, in RAM, and the stage-1 classifier on raw features.

    Raises DataError, naming what wants them, where the cache lacks one of the two or the maps are larger than `ram_limit`, as in
    `load`.
    """
    identity, where = cache.manifest.identity, f"cache {cache.key[:12]}"
    if not identity.maps:
        raise DataError(
            f"{wanted_by}: wants feature maps, {where} holds none; extract it again with --set extract.maps=true"
        )
    classifier = stage1_classifier(cache)
    if classifier is None:
        raise DataError(
            f"{wanted_by}: wants the stage-1 classifier, {where} holds none; choose another retrain.augmentation"
        )
    rows, places = identity.splits["train"].rows, identity.maps[0] * identity.maps[1]
    size = rows * identity.width * places * np.dtype(identity.dtype).itemsize
    if size > _limit(ram_limit):
        raise DataError(
            f"{wanted_by}: wanted at most {_limit(ram_limit) / 2**30:.1f} GiB of feature maps in RAM, found "
            f"{size / 2**30:.1f} GiB in {where}; raise ram_limit"
        )
    return Maps(torch.as_tensor(cache.maps("train")).flatten(2), *classifier)


def is_unseen(cache: FeatureCache) -> bool:
    """Whether the cache's backbone was not trained on its training rows: imported features, or weights taken as they are."""
    stage1 = cache.manifest.provenance.settings.get("stage1")
    return not isinstance(stage1, dict) or stage1.get("epochs") == 0


def corrects_the_prior(cache: FeatureCache) -> bool:
    """Whether the stage-1 classifier was trained with a loss that takes the training prior into account already."""
    stage1 = cache.manifest.provenance.settings.get("stage1")
    if not isinstance(stage1, dict):
        return False
    return stage1.get("loss") == "logit-adjusted" or stage1.get("reweight") in ("drw", "class-balanced")


def coordinates_of(cache: FeatureCache, settings: Settings) -> str:
    """What stages 2 and 3 work in, as keys and generators name it: `raw`, `standard` or `supported`.

    `supported` is `standard` with columns that differ in a few rows counting less. With a stage-1 classifier every column counts
    in full: its weights for such columns would be huge in those coordinates, and the norms of its rows would say nothing else.
    """
    if settings.coordinates == "raw":
        return "raw"
    return "supported" if cache.classifier() is None else "standard"


def training_rows(cache: FeatureCache, settings: Settings, views: bool) -> Features:
    """The training split in the coordinates that stages 2 and 3 of these settings work in."""
    train, kind = load(cache, views=views, ram_limit=settings.ram_limit), coordinates_of(cache, settings)
    return train if kind == "raw" else train.standardised(by_support=kind == "supported")
