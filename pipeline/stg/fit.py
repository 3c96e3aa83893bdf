"""The head classes' rows and the loop over them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.artefacts import folders
from pipeline.errors import DataError, TrainingError
from pipeline.features import Features
from pipeline.longtail import head_classes
from pipeline.progress import Track, track
from pipeline.rng import derive, generator
from pipeline.settings.stage2 import STG
from pipeline.stg.estimator import TargetEstimator
from pipeline.stg.generator import SemanticTransformationGenerator, regression_loss


@dataclass(frozen=True)
class HeadRows:
    """Head-class rows with labels 0..H-1, split into rows to fit and rows held out."""

    fit: Features
    held_out: Features
    heads: list[int]


def head_rows(train: Features, classes: tuple[str, ...], settings: STG, seed: int) -> HeadRows:
    """The head classes' rows, a share of each class held out (seeded, at least one row)."""
    heads = head_classes(train.counts_C.tolist(), settings)
    fit, held_out = [], []
    for position, c in enumerate(heads):
        rows_N = (train.labels_N == c).nonzero()[:, 0]
        if len(rows_N) < 3:
            raise DataError(
                f"head class {classes[c]!r} has {len(rows_N)} training sample{'s' * (len(rows_N) != 1)}: Eq. 1 wants 2 and "
                "one held out; raise stg.head_above or lower stg.head_classes"
            )
        rows_N = rows_N[torch.randperm(len(rows_N), generator=generator(seed, "held-out", position))]
        cut = max(1, int(settings.held_out * len(rows_N)))
        held_out.append(rows_N[:cut])
        fit.append(rows_N[cut:])
    index_C = torch.full((len(classes),), -1)
    index_C[heads] = torch.arange(len(heads))

    def part(rows: list[Tensor]) -> Features:
        chosen = train.select(torch.cat(rows).sort().values)
        return replace(chosen, labels_N=index_C[chosen.labels_N], counts_C=chosen.counts_C[heads])

    return HeadRows(part(fit), part(held_out), heads)


def fit(
    rows: HeadRows, settings: STG, seed: int, log: folders.Log | None = None
) -> tuple[SemanticTransformationGenerator, int, float]:
    """Adam on the regression loss over shuffled batches: the generator, its steps, the last epoch's mean loss."""
    stg = build(rows.fit.width, len(rows.heads), settings, seed)
    optimizer = torch.optim.Adam(stg.parameters(), lr=settings.learning_rate, fused=True)
    estimator = TargetEstimator(rows.fit, settings)
    steps, mean_loss = 0, float("nan")
    with track(settings.epochs * len(rows.fit.labels_N), "train-stg", "rows") as bar:
        for epoch in range(settings.epochs):
            losses = _epoch(stg, optimizer, estimator, rows.fit, settings, generator(seed, "stg", epoch), bar)
            steps += len(losses)
            mean_loss = sum(losses) / max(1, len(losses))
            if not torch.isfinite(torch.tensor(mean_loss)):
                raise TrainingError(
                    f"train-stg: the loss is not finite in epoch {epoch + 1} of {settings.epochs} at rate "
                    f"{settings.learning_rate}; lower stg.learning_rate or use stg.loss=mse-log"
                )
            if log is not None:
                log.write(epoch=epoch + 1, loss=mean_loss)
    return stg.eval(), steps, mean_loss


def build(width: int, heads: int, settings: STG, seed: int) -> SemanticTransformationGenerator:
    """A new generator, initialised from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "stg-init"))
        return SemanticTransformationGenerator(width, heads, settings.hidden, settings.variance, settings.token_std)


def _epoch(
    stg: SemanticTransformationGenerator,
    optimizer: torch.optim.Optimizer,
    estimator: TargetEstimator,
    fit: Features,
    settings: STG,
    draws: torch.Generator,
    bar: Track,
) -> list[float]:
    stg.train()
    losses = []
    for rows_B in _batches(len(fit.labels_N), settings.batch_size, draws):
        view_B = torch.randint(fit.views, (len(rows_B),), generator=draws)
        features_BD = fit.gather(view_B, rows_B)
        labels_B = fit.labels_N[rows_B]
        target_mean_BD, target_variance_BD, valid_B = estimator(features_BD, labels_B, rows_B)
        bar.advance(len(rows_B))
        if int(valid_B.sum()) < 2:
            continue
        mean_BD, variance_BD = stg(features_BD[valid_B], labels_B[valid_B])
        loss = regression_loss(
            mean_BD, variance_BD, target_mean_BD[valid_B], target_variance_BD[valid_B], settings.loss
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _batches(rows: int, size: int, draws: torch.Generator) -> Iterator[Tensor]:
    for rows_B in torch.randperm(rows, generator=draws).split(size):
        if len(rows_B) > 1:
            yield rows_B
