"""How long a head is trained on this machine, from a few steps on random features."""

import time

import torch

from pipeline.augment import UNCHANGED
from pipeline.classifiers.budget import FLOOR, ceiling, steps_of
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.problem import Problem
from pipeline.features import Features
from pipeline.progress import silently
from pipeline.rng import sampled
from pipeline.settings.stage3 import Retrain

TIMED_STEPS = (10, 60)
"""Steps of the two trainings whose difference tells what a step takes; what else a training does is in both."""
LONG_SECONDS = 1.0
"""Where the shorter takes as long as this, the longer is left out."""


def training_seconds(settings: Retrain, rows: int, width: int, classes: int) -> tuple[float, str]:
    """Seconds that one trained head takes with all its seeds, or, where held-out rows end it, takes at least; and its steps.

    The probe trains a linear head (cRT) without an augmentation. An augmentation may double its time.
    """
    labels_N = torch.arange(max(2, min(rows, 4 * settings.batch_size))) % classes
    features_1ND = sampled(torch.randn, 1, len(labels_N), width, generator=torch.Generator().manual_seed(0))
    train = Features(features_1ND, labels_N, torch.bincount(labels_N, minlength=classes))

    def seconds(steps: int) -> float:
        changes = {"head": "crt", "start": "fresh", "augmentation": "none", "epochs": 0, "steps": steps}
        own = settings.model_copy(update=changes).settled(chooses=False)
        seeds = list(range(settings.seeds))
        problem = Problem(own, train, seeds, None, UNCHANGED, False, False, None, "balanced", "a probe")
        started = time.perf_counter()
        with silently():
            kind("crt")(problem)
        return time.perf_counter() - started

    few, many = TIMED_STEPS
    seconds(1)  # what only the first training of a process does
    short = seconds(few)
    each = max((seconds(many) - short) / (many - few), 0.0) if short < LONG_SECONDS else short / few
    if settings.steps or settings.epochs:
        steps = steps_of(settings, rows)
        return short + steps * each, f"{steps:,} steps"
    most = ceiling(settings, rows)
    return short + FLOOR * each, f"{FLOOR:,} to {most:,} steps; the time is that of the fewest"
