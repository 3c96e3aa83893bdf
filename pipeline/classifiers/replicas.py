"""Training classifiers on features: seeds and settings side by side, one batched program (paper, Eq. 3 to 5)."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from pipeline.augment.kinds import Augmentation, Draw, augment
from pipeline.classifiers.linear import ReplicaOptimizer
from pipeline.classifiers.step import Heads, Step
from pipeline.errors import ConfigError, TrainingError
from pipeline.features import Features
from pipeline.machine.device import keep_freed_memory
from pipeline.progress import track
from pipeline.rng import generator
from pipeline.samplers import RowSampler
from pipeline.settings.stage3 import Retrain

Started = TypeVar("Started", bound=Heads)
LOSS_SETTINGS = ("tau", "smoothing_head", "smoothing_tail")
"""Settings that a head's loss alone reads."""
PER_REPLICA = ("learning_rate", "strength", "threshold", "dropout", "noise", *LOSS_SETTINGS)
"""Settings that may differ between variants trained side by side; the others shape the program."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of K steps for S seeds. Arms that share a seed share rows, views and noise: comparisons are paired."""

    rows_SKB: Tensor
    views_SKB: Tensor
    noise_SKBD: Tensor
    """Empty, as `uniform_SKBD`, where the augmentation draws none."""
    uniform_SKBD: Tensor
    others_SKB: Tensor | None = None
    """A second batch of rows, where the augmentation draws one; clean views."""

    @property
    def steps(self) -> int:
        return self.rows_SKB.shape[1]


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
    sampler = RowSampler(features.labels_N, settings.sampled)
    trainable, factors = [tensor.requires_grad_(True) for tensor, _ in tensors], [factor for _, factor in tensors]
    optimizer = ReplicaOptimizer(trainable, settings.optimizer, settings.momentum, settings.weight_decay)
    rate_R = torch.tensor([variant.learning_rate for variant in variants]).repeat_interleave(len(seeds))
    step = 0
    with track(steps, description, "steps") as bar:
        for draws in _blocks(features, sampler, settings, augmentation, seeds, steps):
            for k in range(draws.steps):
                inputs_RBD, labels_RB = _inputs(features, draws, k, variants, augmentation)
                loss = objective(start, Step(inputs_RBD, labels_RB, step, steps))
                gradients = torch.autograd.grad(loss, trainable)
                scale = 0.5 * (1 + math.cos(math.pi * step / steps)) if settings.schedule == "cosine" else 1.0
                scale *= min(1.0, (step + 1) / max(1, settings.warmup_steps))
                optimizer.step(gradients, [rate_R * (scale * factor) for factor in factors])
                step += 1
                if go_on is not None and not go_on(step, start):
                    break
            bar.advance(draws.steps)
            _check(loss, step, steps, rate_R)
            if k + 1 < draws.steps:
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


def _blocks(
    features: Features,
    sampler: RowSampler,
    settings: Retrain,
    augmentation: Augmentation,
    seeds: Sequence[int],
    steps: int,
) -> Iterator[Draws]:
    """Draws for all steps, some steps at a time; how many depends on the batch alone, so that seeds do not meet."""
    purposes = ("rows", "views", "noise", "uniform", "others")
    any_row = RowSampler(features.labels_N, "instance")
    generators = {purpose: [generator(seed, "retrain", purpose) for seed in seeds] for purpose in purposes}
    size = max(1, 2**18 // (settings.batch_size * features.width))
    views = features.views
    kind = augmentation.kind
    # Blocks of many seeds are too large for malloc to keep; fresh pages each time would cost as much as the numbers in them.
    wide = (len(seeds), min(size, steps), settings.batch_size)
    uniforms = features.width if kind.uniforms is None else kind.uniforms(features)
    noise = torch.empty((*wide, features.width) if kind.draws_noise else 0)
    uniform = torch.empty((*wide, uniforms) if kind.draws_uniform else 0)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for start in range(0, steps, size):
            shape = (min(size, steps - start), settings.batch_size)
            none = torch.empty(len(seeds), shape[0], 0)
            yield Draws(
                torch.stack([sampler.draw(shape, source) for source in generators["rows"]]),
                torch.stack([torch.randint(views, shape, generator=source) for source in generators["views"]]),
                _fill(torch.randn, noise[:, : shape[0]], generators["noise"], threads) if kind.draws_noise else none,
                _fill(torch.rand, uniform[:, : shape[0]], generators["uniform"], threads)
                if kind.draws_uniform
                else none,
                torch.stack([any_row.draw(shape, source) for source in generators["others"]])
                if kind.draws_rows
                else None,
            )


def _fill(
    draw: Callable[..., Tensor], filled: Tensor, generators: list[Generator], threads: ThreadPoolExecutor
) -> Tensor:
    """One draw a generator, along the first axis, written in place; several generators side by side."""

    def one(position: int) -> None:
        part = filled[position]
        draw(part.shape, generator=generators[position], out=part)

    each = map if len(generators) == 1 else threads.map
    list(each(one, range(len(generators))))
    return filled


def _inputs(
    features: Features, draws: Draws, k: int, variants: Sequence[Retrain], augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    """One step's augmented features (R, B, D) and labels (R, B)."""
    row_SB, view_SB = draws.rows_SKB[:, k], draws.views_SKB[:, k]
    flat_SB = features.flat(view_SB, row_SB)
    features_SBD = features.gather(view_SB, row_SB)
    labels_SB = features.labels_N[row_SB]
    others_SBD = None if draws.others_SKB is None else features.gather(0, draws.others_SKB[:, k])
    draw = Draw(features_SBD, labels_SB, flat_SB, draws.noise_SKBD[:, k], draws.uniform_SKBD[:, k], others_SBD)
    inputs_VSBD = augment(draw, variants, augmentation)
    inputs_VSBD = inputs_VSBD.expand(len(variants), *features_SBD.shape)
    return inputs_VSBD.flatten(0, 1), labels_SB.expand(len(variants), *labels_SB.shape).flatten(0, 1)


def _check(loss: Tensor, step: int, steps: int, rate_R: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"retrain: the loss is not finite by step {step} of {steps} at rate {float(rate_R.max()):g}; "
            "lower retrain.learning_rate or retrain.strength"
        )
