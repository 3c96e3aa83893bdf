"""The tail's training rows of a cache, and their augmentation by a generator: for those who look at single samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline.augment import Augmentation, augmentation_for
from pipeline.augment.transfer import nearest_heads
from pipeline.features import Features, stage1_classifier, training_rows
from pipeline.settings import Settings
from pipeline.stg.trained import TrainedSTG


@dataclass(frozen=True)
class Tail:
    """The training rows in the coordinates of stages 2 and 3, and the augmentation of the tail's by a generator."""

    train: Features
    augmentation: Augmentation
    settings: Settings
    trained: TrainedSTG
    nearest_N: Tensor
    """The nearest head class of each row, as a class number (N,)."""

    @property
    def classes(self) -> list[int]:
        """Tail classes that have training rows, the smallest first."""
        counts = self.train.counts_C.tolist()
        tail = [c for c, n in enumerate(counts) if n and c not in self.trained.heads]
        return sorted(tail, key=lambda c: (counts[c], c))


@torch.no_grad()
def tail_of(settings: Settings, cache: FeatureCache, trained: TrainedSTG) -> Tail:
    """The tail of a cache's training rows with the augmentation of stage 3 by this generator."""
    changed = settings.retrain.model_copy(update={"head": "crt", "augmentation": "stg"})
    settings = settings.model_copy(update={"retrain": changed})
    train = training_rows(cache, settings, views=False)
    stage1 = stage1_classifier(cache, train.coordinates)
    augmentation = augmentation_for(settings, train, stage1, trained)
    # A soft generator lends a mixture of all head classes; which one is nearest is then said by distance.
    similarity = "l2" if settings.stg.similarity == "soft" else settings.stg.similarity
    nearest_N = nearest_heads(similarity, stage1, train, trained.centroids_HD, trained.heads)
    return Tail(train, augmentation, settings, trained, torch.tensor(trained.heads)[nearest_N])
