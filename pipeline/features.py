"""A cache's splits as tensors in RAM: what stages 2 and 3 read instead of images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline.errors import DataError


@dataclass(frozen=True)
class Features:
    """One split: V views of N rows, in the cache's storage type; `counts_C` are the split's rows per class."""

    features_VND: Tensor
    labels_N: Tensor
    counts_C: Tensor

    @property
    def clean_ND(self) -> Tensor:
        return self.features_VND[0]

    @property
    def width(self) -> int:
        return self.features_VND.shape[2]

    def select(self, rows_N: Tensor) -> "Features":
        """The same with only some rows; counts follow."""
        labels_N = self.labels_N[rows_N]
        counts_C = torch.bincount(labels_N, minlength=len(self.counts_C))
        return Features(self.features_VND[:, rows_N], labels_N, counts_C)


def load(cache: FeatureCache, split: str = "train", views: bool = True) -> Features:
    """The split's clean view and, with `views`, its augmented ones.

    Raises DataError where the cache has no such split, a label is out of range or a feature is not finite.
    """
    if split not in cache.splits:
        raise DataError(f"cache {cache.key[:12]}: no split {split!r}, found {', '.join(cache.splits)}")
    labels_N = torch.from_numpy(cache.labels(split))
    classes = len(cache.classes)
    if len(labels_N) == 0 or int(labels_N.min()) < 0 or int(labels_N.max()) >= classes:
        found = "no rows" if len(labels_N) == 0 else f"{int(labels_N.min())} to {int(labels_N.max())}"
        raise DataError(f"cache {cache.key[:12]}, split {split}: labels wanted in 0 to {classes - 1}, found {found}")
    features_VND = _read_views(cache, split, cache.views(split) if views else ["clean"])
    return Features(features_VND, labels_N, torch.bincount(labels_N, minlength=classes))


def _read_views(cache: FeatureCache, split: str, names: list[str]) -> Tensor:
    first_ND = torch.from_numpy(cache.features(split, names[0]))
    features_VND = first_ND.new_empty(len(names), *first_ND.shape)
    for view, name in enumerate(names):
        features_VND[view] = first_ND if view == 0 else torch.from_numpy(cache.features(split, name))
        bad_N = ~torch.isfinite(features_VND[view]).all(dim=1)
        if bool(bad_N.any()):
            row = int(bad_N.nonzero()[0, 0])
            raise DataError(
                f"cache {cache.key[:12]}, split {split}, view {name}: {int(bad_N.sum())} rows are not finite, "
                f"the first is row {row}; extract the features again"
            )
    return features_VND
