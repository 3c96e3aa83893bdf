"""How long a head is trained: for the epochs that the settings name, or until it has learnt what held-out rows can tell."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from pipeline.classifiers.step import Heads
from pipeline.features import Features
from pipeline.rng import generator, sampled
from pipeline.settings.stage3 import Retrain

FLOOR, CEILING = 300, 20_000
"""Steps that a head is given at least and at most where the settings leave them open."""
EPOCHS = 10
"""Passes over the rows where held-out rows say nothing, as in the paper."""
SEARCH_EPOCHS = 100
"""Passes over the rows after which the search on held-out rows ends, within FLOOR and CEILING."""
FIRST, GROWTH = 50, 1.25
"""The held-out loss is taken at step 50 and then at each step a quarter later."""
PATIENCE = 2.0
"""The search ends once this many times the best step brought nothing better."""
HELD_OUT = 0.2
"""Share of each class of at least 1 / HELD_OUT rows that is held out."""
FEWEST = 20
"""Held-out rows below which their loss is noise; training then takes the steps that it would take without them."""


def steps_of(settings: Retrain, rows: int) -> int:
    """`settings.steps`, or those of `settings.epochs` passes over N rows; where both are 0, EPOCHS, within FLOOR and CEILING."""
    if settings.steps:
        return settings.steps
    an_epoch = math.ceil(rows / settings.batch_size)
    if settings.epochs:
        return settings.epochs * an_epoch
    return min(max(EPOCHS * an_epoch, FLOOR), CEILING)


def ceiling(settings: Retrain, rows: int) -> int:
    """The steps after which a search ends whatever it found."""
    return min(max(SEARCH_EPOCHS * math.ceil(rows / settings.batch_size), 10 * FLOOR), CEILING)


def split(train: Features, seed: int) -> tuple[Features, Features] | None:
    """(rows to fit, rows held out): a seeded share of each class that can spare it. None where too few can."""
    fit, held_out = [], []
    for c in range(len(train.counts_C)):
        rows_N = (train.labels_N == c).nonzero()[:, 0]
        cut = int(HELD_OUT * len(rows_N))
        shuffled_N = rows_N[sampled(torch.randperm, len(rows_N), generator=generator(seed, "budget", c))]
        held_out.append(shuffled_N[:cut])
        fit.append(shuffled_N[cut:])
    if sum(map(len, held_out)) < FEWEST or sum(len(rows_N) > 0 for rows_N in held_out) < 2:
        return None
    return train.select(torch.cat(fit).sort().values), train.select(torch.cat(held_out).sort().values)


@dataclass
class Search:
    """The held-out loss while a head trains: class-balanced cross entropy on clean rows, mean over replicas."""

    held_out: Features
    best_step: int = FIRST
    best_loss: float = math.inf

    def __post_init__(self) -> None:
        self._marks = _marks()
        self._next = next(self._marks)
        self._rows = [
            (self.held_out.gather(0, rows_B), self.held_out.labels_N[rows_B]) for rows_B in self.held_out.blocks()
        ]

    def __call__(self, step: int, heads: Heads) -> bool:
        """Whether to go on after this step."""
        if step < self._next:
            return True
        self._next = next(self._marks)
        loss = self._loss(heads)
        if loss < self.best_loss:
            self.best_step, self.best_loss = step, loss
        return step < max(FLOOR, PATIENCE * self.best_step)

    @torch.no_grad()
    def _loss(self, heads: Heads) -> float:
        present_C = self.held_out.counts_C > 0
        total_C = torch.zeros(len(present_C), dtype=torch.float64)
        replicas = heads.replicas
        for features_BD, labels_B in self._rows:
            logits_RBC = heads.logits(features_BD.expand(replicas, *features_BD.shape))
            loss_B = functional.cross_entropy(
                logits_RBC.flatten(0, 1), labels_B.repeat(replicas), reduction="none"
            ).view(replicas, -1)
            total_C.index_add_(0, labels_B, loss_B.mean(dim=0).double())
        return float((total_C[present_C] / self.held_out.counts_C[present_C]).mean())


def _marks() -> Iterator[int]:
    step = FIRST
    while True:
        yield step
        step = max(step + 1, round(step * GROWTH))


def scaled(steps: int, fitted: int, rows: int) -> int:
    """As many passes over all N rows as `steps` were over the fitted ones."""
    return max(FIRST, round(steps * rows / fitted))
