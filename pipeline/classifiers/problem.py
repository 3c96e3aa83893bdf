"""What a head is made from: rows of a cache as tensors, and the classifier of stage 1 where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from pipeline.augment import Augmentation
from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.settings.stage3 import Retrain


@dataclass(frozen=True)
class Problem:
    """The training rows of C classes, and what the settings ask to be made of them for each seed."""

    settings: Retrain
    train: Features
    seeds: Sequence[int]
    stage1: tuple[Tensor, Tensor] | None
    """Weight (C, D) and bias (C,) of the classifier that the backbone was trained with."""
    augmentation: Augmentation
    unseen: bool
    """Whether the backbone never saw these rows, so that held-out ones tell how a head does on new images."""
    corrected: bool
    """Whether the stage-1 classifier corrects the training prior already; adjusting its logits would correct it twice."""
    val: Features | None
    """Labelled rows that no stage trained on, where the cache has a `val` split and the head learns or chooses there."""
    metric: str
    """What a choice is by: `balanced` or `accuracy`."""
    origin: str
    """Where the rows come from, for errors: `cache 802e10c36cb5`."""

    variants: Sequence[Retrain] = ()
    """Settings that are trained side by side, for heads that are trained; none: `settings` alone."""

    @property
    def side_by_side(self) -> Sequence[Retrain]:
        """The settings to train: replica = (one of these, seed)."""
        return self.variants or (self.settings,)

    @property
    def classes(self) -> int:
        return len(self.train.counts_C)

    def stage1_classifier(self, wanted_by: str, remedy: str) -> tuple[Tensor, Tensor]:
        """The stage-1 classifier; DataError, naming what wants it and what to do, where there is none."""
        if self.stage1 is None:
            raise DataError(f"{wanted_by}: wants the stage-1 classifier, {self.origin} holds none; {remedy}")
        return self.stage1
