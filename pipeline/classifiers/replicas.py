"""Training classifiers on features: seeds and settings side by side, one batched program (paper, Eq. 3 to 5)."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

import torch
from torch import Tensor

from pipeline.augment.kinds import Augmentation, Draw, augment
from pipeline.classifiers.draws import AT_A_TIME, ROW_NUMBERS, draws
from pipeline.classifiers.linear import ReplicaOptimizer
from pipeline.classifiers.step import Heads, Step
from pipeline.errors import ConfigError, TrainingError
from pipeline.features import Features
from pipeline.machine.device import keep_freed_memory
from pipeline.machine.threads import shared_where_long
from pipeline.progress import track
from pipeline.settings.stage3 import Retrain

Started = TypeVar("Started", bound=Heads)
LOSS_SETTINGS = ("tau", "smoothing_head", "smoothing_tail")
"""Settings that a head's loss alone reads."""
PER_REPLICA = ("learning_rate", "strength", "threshold", "dropout", "noise", *LOSS_SETTINGS)
"""Settings that may differ between variants trained side by side; the others shape the program."""


def train_heads(
    features: Features,
    start: Started,
    tensors: list[tuple[Tensor, float]],
    objective: Callable[[Started, Step], Tensor],
    variants: Sequence[Retrain],
    seeds: Sequence[int],
    augmentation: Augmentation,
    steps: int,
    description: str = "retrain",
    go_on: Callable[[int, Started], bool] | None = None,
) -> Started:
    """Train one classifier for each variant and seed as R = len(variants) * len(seeds) replicas; replica = (variant, seed).

    `start` holds R classifiers and is trained in place: `tensors` of it, each at its share of the rate, by
    `objective`, which sums over replicas. Variants may differ in PER_REPLICA only. A replica does not depend
    on which others are trained beside it, up to the rounding of batched products. After each step `go_on` (step, heads) may end
    the training. Raises TrainingError on divergence.
    """
    settings = _common(variants)
    keep_freed_memory()
    trainable, factors = [tensor.requires_grad_(True) for tensor, _ in tensors], [factor for _, factor in tensors]
    optimizer = ReplicaOptimizer(trainable, settings.optimizer, settings.momentum, settings.weight_decay)
    rate_R = torch.tensor([variant.learning_rate for variant in variants]).repeat_interleave(len(seeds))
    # Steps after which the loss is looked at and progress is shown: where a step is long, after each.
    every = max(1, ROW_NUMBERS // (settings.batch_size * features.width))
    inputs = _inputs(features, settings, variants, seeds, augmentation, steps)
    numbers = start.replicas * settings.batch_size * max(features.width, len(features.counts_C))
    with shared_where_long(numbers), track(steps, description, "steps") as bar, closing(inputs):
        for step, (inputs_RBD, labels_RB) in enumerate(inputs):
            loss = objective(start, Step(inputs_RBD, labels_RB, step, steps))
            gradients = torch.autograd.grad(loss, trainable)
            scale = 0.5 * (1 + math.cos(math.pi * step / steps)) if settings.schedule == "cosine" else 1.0
            scale *= min(1.0, (step + 1) / max(1, settings.warmup_steps))
            optimizer.step(gradients, [rate_R * (scale * factor) for factor in factors])
            done = step + 1
            ends = done == steps or (go_on is not None and not go_on(done, start))
            if ends or done % every == 0:
                _check(loss, done, steps, rate_R)
                bar.advance(done - bar.done)
            if ends:
                break
    for parameter in trainable:
        parameter.requires_grad_(False)
    return start


def _common(variants: Sequence[Retrain]) -> Retrain:
    first = variants[0].model_dump(exclude=set(PER_REPLICA))
    for variant in variants[1:]:
        other = variant.model_dump(exclude=set(PER_REPLICA))
        differing = [name for name in first if first[name] != other[name]]
        if differing:
            raise ConfigError(
                f"variants trained side by side differ in retrain.{differing[0]}; only {', '.join(PER_REPLICA)} may differ"
            )
    return variants[0]


def _inputs(
    features: Features,
    settings: Retrain,
    variants: Sequence[Retrain],
    seeds: Sequence[int],
    augmentation: Augmentation,
    steps: int,
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Each step's augmented features (R, B, D) and labels (R, B), some seeds at a time; several threads share the seeds."""
    at_a_time = max(1, AT_A_TIME // (settings.batch_size * features.width))
    parts = [seeds[start : start + at_a_time] for start in range(0, len(seeds), at_a_time)]
    sources = [draws(features, settings, augmentation.kind, part, steps) for part in parts]

    def augmented(source: Iterator[Draw]) -> tuple[Tensor, Tensor]:
        draw = next(source)
        return augment(draw, variants, augmentation), draw.labels_SB

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        # Elsewhere than on a CPU one thread keeps the device busy, and others would not know which it is.
        shared = len(parts) > 1 and torch.get_num_threads() > 1 and features.labels_N.device.type == "cpu"
        for _ in range(steps):
            of_parts = list(threads.map(augmented, sources) if shared else map(augmented, sources))
            inputs_VSBD = _joined([inputs for inputs, _ in of_parts], dim=1)
            labels_SB = _joined([labels for _, labels in of_parts], dim=0)
            inputs_VSBD = inputs_VSBD.expand(len(variants), *inputs_VSBD.shape[1:])
            labels_VSB = labels_SB.expand(len(variants), *labels_SB.shape)
            yield inputs_VSBD.flatten(0, 1), labels_VSB.flatten(0, 1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _check(loss: Tensor, step: int, steps: int, rate_R: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"retrain: the loss is not finite by step {step} of {steps} at rate {float(rate_R.max()):g}; "
            "lower retrain.learning_rate or retrain.strength"
        )
