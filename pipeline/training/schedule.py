"""Learning rate of a step. Pure."""

import math

from pipeline.settings.stage1 import Stage1


def learning_rate(stage1: Stage1, step: int, steps_per_epoch: int) -> float:
    """The rate of 0-based `step`: linear warm-up to `learning_rate`, then steps or a cosine to 0 at the last epoch's end.

    Milestones are shares of `epochs`, rounded to whole epochs.
    """
    warmup = stage1.warmup_epochs * steps_per_epoch
    if step < warmup:
        return stage1.learning_rate * (step + 1) / math.ceil(warmup)
    if stage1.schedule == "cosine":
        total = stage1.epochs * steps_per_epoch
        return stage1.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    epoch = step // steps_per_epoch
    passed = sum(epoch >= round(share * stage1.epochs) for share in stage1.milestones)
    return stage1.learning_rate * stage1.gamma**passed


def conventional_share(epoch: int, epochs: int) -> float:
    """l = 1 - (epoch / epochs)^2 of a 0-based epoch: from the conventional branch to the reversed one (section 4.3)."""
    return 1 - (epoch / epochs) ** 2


def is_weighted(stage1: Stage1, epoch: int) -> bool:
    """Whether a 0-based epoch's loss is weighted; under `drw` from `drw_start` on (Cao et al., 2019, Alg. 1)."""
    if stage1.reweight == "drw":
        return epoch >= round(stage1.drw_start * stage1.epochs)
    return stage1.reweight == "class-balanced"
