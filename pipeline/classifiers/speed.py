"""How long a head is trained on this machine, from a few steps on random features."""

import torch
from torch.nn import functional

from pipeline.classifiers.budget import FLOOR, ceiling, steps_of
from pipeline.machine.timing import seconds_each
from pipeline.settings.stage3 import Retrain

PROBED, PROBE_SECONDS = 10, 1.0


def training_seconds(settings: Retrain, rows: int, width: int, classes: int) -> tuple[float, str]:
    """Seconds that one trained head takes with all its seeds, or, where held-out rows end it, takes at least; and its steps.

    The probe is a linear head without an augmentation. Others take up to a few times as long.
    """
    batch = min(settings.batch_size, rows)
    source = torch.Generator().manual_seed(0)
    weight_RCD = torch.zeros(settings.seeds, classes, width, requires_grad=True)
    optimizer = torch.optim.SGD([weight_RCD], lr=1e-6, momentum=0.9)
    table_ND = torch.randn(min(rows, 4 * batch), width, generator=source)
    labels_B = torch.randint(classes, (settings.seeds * batch,), generator=source)

    def step() -> None:
        drawn_RB = torch.randint(len(table_ND), (settings.seeds, batch), generator=source)
        logits_RBC = table_ND[drawn_RB] @ weight_RCD.transpose(1, 2)
        optimizer.zero_grad()
        functional.cross_entropy(logits_RBC.flatten(0, 1), labels_B).backward()
        optimizer.step()

    each = seconds_each(step, PROBED, PROBE_SECONDS)
    if settings.steps or settings.epochs:
        steps = steps_of(settings, rows)
        return steps * each, f"{steps:,} steps"
    return FLOOR * each, f"{FLOOR:,} to {ceiling(settings, rows):,} steps each; the time is that of the fewest"
