"""Training classifiers on features: seeds and settings side by side, one batched program (paper, Eq. 3 to 5)."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pipeline import losses
from pipeline.errors import ConfigError, TrainingError
from pipeline.features import Features
from pipeline.heads import LinearHeads, ReplicaOptimizer
from pipeline.progress import track
from pipeline.rng import generator
from pipeline.samplers import RowSampler
from pipeline.settings import Retrain
from pipeline.transformations import Transformations

PER_REPLICA = ("learning_rate", "strength", "threshold", "dropout", "noise")
"""Settings that may differ between variants trained side by side; the others shape the program."""

VECTOR = 16
"""Numbers that a processor's widest instruction takes at a time, float32."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of K steps for S seeds. Arms that share a seed share rows, views and noise: comparisons are paired."""

    rows_SKB: Tensor
    views_SKB: Tensor
    noise_SKBD: Tensor
    """Empty, as `uniform_SKBD`, where the augmentation draws none."""
    uniform_SKBD: Tensor

    @property
    def steps(self) -> int:
        return self.rows_SKB.shape[1]


@dataclass
class Augmentation:
    """How a step's features are augmented, before settings are applied."""

    kind: str
    transformations: Transformations | None
    beta_C: Tensor
    """beta_c of Eq. 3, 0 for classes that are not augmented."""


def train_heads(
    features: Features,
    start: LinearHeads,
    variants: Sequence[Retrain],
    seeds: Sequence[int],
    augmentation: Augmentation,
    description: str = "retrain",
) -> LinearHeads:
    """Train one classifier for each variant and seed as R = len(variants) * len(seeds) replicas; replica = (variant, seed).

    `start` holds R classifiers and is trained in place. Variants may differ in PER_REPLICA only. A replica does not depend
    on which others are trained beside it, up to the rounding of batched products. Raises TrainingError on divergence.
    """
    settings = _common(variants)
    sampler = RowSampler(features.labels_N, settings.sampling)
    steps = settings.epochs * math.ceil(len(features.labels_N) / settings.batch_size)
    trainable, factors = _trainable(start, settings)
    optimizer = ReplicaOptimizer(trainable, settings.optimizer, settings.momentum, settings.weight_decay)
    rate_R = torch.tensor([variant.learning_rate for variant in variants]).repeat_interleave(len(seeds))
    smoothing_C = losses.smoothing_by_class(features.counts_C, settings.smoothing_head, settings.smoothing_tail)
    step = 0
    with track(steps, description, "steps") as bar:
        for draws in _blocks(features, sampler, settings, seeds, steps):
            for k in range(draws.steps):
                inputs_RBD, labels_RB = _inputs(features, draws, k, variants, augmentation)
                loss = _loss(start.logits(inputs_RBD), labels_RB, settings, smoothing_C)
                gradients = torch.autograd.grad(loss, trainable)
                scale = 0.5 * (1 + math.cos(math.pi * step / steps)) if settings.schedule == "cosine" else 1.0
                optimizer.step(gradients, [rate_R * (scale * factor) for factor in factors])
                step += 1
            bar.advance(draws.steps)
            _check(loss, step, steps, rate_R)
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


def _trainable(heads: LinearHeads, settings: Retrain) -> tuple[list[Tensor], list[float]]:
    """The tensors a head trains and each one's share of the learning rate."""
    chosen = {
        "crt": ([heads.weight_RCD, heads.bias_RC], [1.0, 1.0]),
        "lws": ([heads.scale_RC], [1.0]),
        "generalized": (
            [heads.weight_RCD, heads.bias_RC, heads.scale_RC],
            [settings.classifier_factor, settings.classifier_factor, 1.0],
        ),
    }[settings.head]
    for parameter in chosen[0]:
        parameter.requires_grad_(True)
    return chosen


def _loss(logits_RBC: Tensor, labels_RB: Tensor, settings: Retrain, smoothing_C: Tensor) -> Tensor:
    """Sum over replicas of the mean over the batch, so that replicas do not scale each other's gradients."""
    replicas, _, classes = logits_RBC.shape
    if classes < VECTOR and settings.head != "generalized":
        # The softmax then runs across the batch: along so few classes it would go value by value.
        return replicas * functional.cross_entropy(logits_RBC.transpose(1, 2), labels_RB)
    logits, labels = logits_RBC.flatten(0, 1), labels_RB.flatten()
    if settings.head == "generalized":
        return replicas * losses.label_aware_smoothing(logits, labels, smoothing_C)
    return replicas * functional.cross_entropy(logits, labels)


def _blocks(
    features: Features, sampler: RowSampler, settings: Retrain, seeds: Sequence[int], steps: int
) -> Iterator[Draws]:
    """Draws for all steps, some steps at a time; how many depends on the batch alone, so that seeds do not meet."""
    purposes = ("rows", "views", "noise", "uniform")
    generators = {purpose: [generator(seed, "retrain", purpose) for seed in seeds] for purpose in purposes}
    size = max(1, 2**18 // (settings.batch_size * features.width))
    views = features.views
    needs_noise = settings.augmentation in ("stg", "closed-form", "noise")
    needs_uniform = settings.augmentation in ("stg", "closed-form", "dropout")

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        for start in range(0, steps, size):
            shape = (min(size, steps - start), settings.batch_size)
            wide = (*shape, features.width)
            none = torch.empty(len(seeds), shape[0], 0)
            yield Draws(
                torch.stack([sampler.draw(shape, source) for source in generators["rows"]]),
                torch.stack([torch.randint(views, shape, generator=source) for source in generators["views"]]),
                _fill(torch.randn, wide, generators["noise"], threads) if needs_noise else none,
                _fill(torch.rand, wide, generators["uniform"], threads) if needs_uniform else none,
            )


def _fill(
    draw: Callable[..., Tensor], shape: tuple[int, ...], generators: list[Generator], threads: ThreadPoolExecutor
) -> Tensor:
    """One draw of `shape` a generator, along a first axis, written in place; several generators side by side."""
    filled = torch.empty(len(generators), *shape)

    def one(position: int) -> None:
        draw(shape, generator=generators[position], out=filled[position])

    each = map if len(generators) == 1 else threads.map
    list(each(one, range(len(generators))))
    return filled


def _inputs(
    features: Features, draws: Draws, k: int, variants: Sequence[Retrain], augmentation: Augmentation
) -> tuple[Tensor, Tensor]:
    """One step's augmented features (R, B, D) and labels (R, B)."""
    row_SB, view_SB = draws.rows_SKB[:, k], draws.views_SKB[:, k]
    flat_SB = view_SB * len(features.labels_N) + row_SB
    features_SBD = features.gather(view_SB, row_SB)
    labels_SB = features.labels_N[row_SB]
    random = draws.noise_SKBD[:, k], draws.uniform_SKBD[:, k]
    inputs_VSBD = _augmented(features_SBD, labels_SB, flat_SB, random, variants, augmentation)
    inputs_VSBD = inputs_VSBD.expand(len(variants), *features_SBD.shape)
    return inputs_VSBD.flatten(0, 1), labels_SB.expand(len(variants), *labels_SB.shape).flatten(0, 1)


def _augmented(
    features_SBD: Tensor,
    labels_SB: Tensor,
    flat_SB: Tensor,
    random: tuple[Tensor, Tensor],
    variants: Sequence[Retrain],
    augmentation: Augmentation,
) -> Tensor:
    """(V or 1, S, B, D): each variant's augmentation of the same features; `random` is noise and uniform, (S, B, D)."""
    noise_SBD, uniform_SBD = random

    def each(name: str) -> Tensor:
        """(V, 1, 1, 1), or (1, 1, 1, 1) where all variants agree."""
        values = [getattr(variant, name) for variant in variants]
        return torch.tensor(values if len(set(values)) > 1 else values[:1]).view(-1, 1, 1, 1)

    if augmentation.kind == "none":
        return features_SBD[None]
    if augmentation.kind == "noise":
        return features_SBD + each("noise") * noise_SBD
    if augmentation.kind == "dropout":
        keep = (uniform_SBD >= each("dropout")).to(features_SBD.dtype)
        return features_SBD * keep / (1 - each("dropout"))
    assert augmentation.transformations is not None
    mean_SBD, deviation_SBD = augmentation.transformations(features_SBD, flat_SB)
    # Eq. 4 of Eq. 3 as one sum: the mask and beta act on the transformation before lambda tells the variants apart.
    moved_SBD = torch.addcmul(mean_SBD, deviation_SBD, noise_SBD).mul_(augmentation.beta_C[labels_SB][..., None])
    return torch.addcmul(features_SBD, moved_SBD * (uniform_SBD < each("threshold")), each("strength"))


def _check(loss: Tensor, step: int, steps: int, rate_R: Tensor) -> None:
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"retrain: the loss is not finite by step {step} of {steps} at rate {float(rate_R.max()):g}; "
            "lower retrain.learning_rate or retrain.strength"
        )
