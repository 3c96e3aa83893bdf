"""Learning rate of a step. Pure."""

import math

from pipeline.settings.stage1 import Stage1

RISE = 0.3
"""Share of a one-cycle schedule's steps in which the rate rises."""
FIRST, LAST = 1 / 25, 1e-4 / 25
"""The rate of a one-cycle schedule at its first step and after its last, over the highest. These three are the numbers that
torch's OneCycleLR takes, from Smith and Topin, Super-Convergence (2019)."""


def learning_rate(stage1: Stage1, step: int, steps_per_epoch: int) -> float:
    """The rate of 0-based `step`: linear warm-up to `learning_rate`, then steps or a cosine to 0 at the last epoch's end.

    Milestones are shares of `epochs`, rounded to whole epochs. `one-cycle` has its own warm-up.
    """
    if stage1.schedule == "one-cycle":
        return stage1.learning_rate * _one_cycle(step / (stage1.epochs * steps_per_epoch))
    warmup = stage1.warmup_epochs * steps_per_epoch
    if step < warmup:
        return stage1.learning_rate * (step + 1) / math.ceil(warmup)
    if stage1.schedule == "cosine":
        total = stage1.epochs * steps_per_epoch
        return stage1.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    epoch = step // steps_per_epoch
    passed = sum(epoch >= round(share * stage1.epochs) for share in stage1.milestones)
    return stage1.learning_rate * stage1.gamma**passed


def _one_cycle(done: float) -> float:
    """The rate over the highest, after a share `done` of all steps: half a cosine up, half a cosine down."""
    rising = done < RISE
    start, end = (FIRST, 1.0) if rising else (1.0, LAST)
    share = done / RISE if rising else (done - RISE) / (1 - RISE)
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def conventional_share(epoch: int, epochs: int) -> float:
    """l = 1 - (epoch / epochs)^2 of a 0-based epoch: from the conventional branch to the reversed one (section 4.3)."""
    return 1 - (epoch / epochs) ** 2


def is_weighted(stage1: Stage1, epoch: int) -> bool:
    """Whether a 0-based epoch's loss is weighted; under `drw` from `drw_start` on (Cao et al., 2019, Alg. 1)."""
    if stage1.reweight == "drw":
        return epoch >= round(stage1.drw_start * stage1.epochs)
    return stage1.reweight == "class-balanced"
