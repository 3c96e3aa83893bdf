"""How long the paper's generator is learnt on this machine, from a few steps on random features."""

from collections.abc import Sequence

import torch

from pipeline.machine.timing import seconds_each
from pipeline.rng import sampled
from pipeline.settings.stage2 import STG
from pipeline.stg.fit import FLOOR, build, most_steps
from pipeline.stg.generator import regression_loss

STEPS, LIMIT_SECONDS = 10, 3.0


def learning_seconds(settings: STG, width: int, head_counts: Sequence[int]) -> tuple[float, str]:
    """Seconds that learning takes, or, where it ends once it has learnt, takes at least; and the number of steps as text.

    `head_counts` are the training rows of each head class.
    """
    rows = max(2, round(sum(head_counts) * (1 - settings.held_out)))
    batch = min(settings.batch_size, rows)
    stg = build(width, len(head_counts), settings, 0)
    optimizer = torch.optim.Adam(stg.parameters(), lr=settings.learning_rate, fused=True)
    source = torch.Generator().manual_seed(0)
    features_BD, target_BD = sampled(torch.randn, 2, batch, width, generator=source)
    labels_B = sampled(torch.randint, len(head_counts), (batch,), generator=source)

    def step() -> None:
        mean_BD, variance_BD = stg(features_BD, labels_B)
        optimizer.zero_grad()
        regression_loss(mean_BD, variance_BD, target_BD, target_BD.square() + 1e-3, settings.loss).backward()
        optimizer.step()

    each = seconds_each(step, STEPS, LIMIT_SECONDS)
    most = most_steps(rows, width, settings)
    steps = settings.epochs * -(-rows // batch) if settings.epochs else FLOOR
    if settings.epochs or most == FLOOR:
        return steps * each, f"{steps:,} steps"
    return FLOOR * each, f"{FLOOR:,} to {most:,} steps, until it has learnt; the time is that of the fewest"
