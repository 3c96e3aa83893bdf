"""What makes each head of the register. A new head is a function in this folder, a row in `settings/register.py`, and a test."""

import importlib
from collections.abc import Callable
from typing import Any

from pipeline.classifiers import trained
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.problem import Problem
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.trained import Training
from pipeline.settings import register


def _named(row: register.Head) -> Any:
    file, _, name = row.made_by.partition(".")
    return getattr(importlib.import_module(f"pipeline.classifiers.{file}"), name)


def _training(row: register.Head) -> Training:
    made_by = _named(row)
    return made_by if isinstance(made_by, Training) else Training(trained.weights_and_bias, made_by)


TRAININGS: dict[str, Training] = {name: _training(row) for name, row in register.HEADS.items() if row.trained}
"""Heads that are trained step by step. Where a row names a loss, that trains the weights and biases of a linear classifier."""
KINDS: dict[str, Callable[[Problem], Classifier | Scored]] = {
    name: trained.head(TRAININGS[name]) if row.trained else _named(row) for name, row in register.HEADS.items()
}
"""Every head, from a problem to a classifier."""


def kind(head: str) -> Callable[[Problem], Classifier | Scored]:
    """What makes a classifier of this kind; ValueError, listing all, for a name that has no row."""
    if head not in KINDS:
        raise ValueError(f"head {head!r}: no such head; wanted one of {', '.join(KINDS)}")
    return KINDS[head]
