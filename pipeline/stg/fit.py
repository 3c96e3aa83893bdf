"""The head classes' rows and the loop over them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pipeline.artefacts import folders
from pipeline.errors import DataError, TrainingError
from pipeline.features import Features
from pipeline.longtail import head_classes
from pipeline.progress import Track, track
from pipeline.rng import derive, generator, sampled
from pipeline.settings.stage2 import STG
from pipeline.stg.estimator import TargetEstimator
from pipeline.stg.generator import SemanticTransformationGenerator, regression_loss
from pipeline.stg.statistics import closed_form, split_statistics

EPOCHS, FLOOR, CEILING = 200, 500, 20_000
"""Passes over the head rows after which an open-ended training ends, within so many steps."""
NARROW_CEILING = 2_000
"""The ceiling for narrow networks: of wide features a step costs more."""
WIDE, NARROW = 512, 128
"""Features of more than WIDE channels get hidden layers of NARROW units, where `stg.network` and `stg.hidden` leave it open."""
PATIENCE = 2.0
"""An open-ended training ends once this many times the best steps brought nothing better."""


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
        rows_N = rows_N[sampled(torch.randperm, len(rows_N), generator=generator(seed, "held-out", position))]
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
    """Adam on the regression loss over shuffled batches: the generator, its steps, the last epoch's mean loss.

    With `settings.epochs`, the generator is that after the last step. Without, it is that of the epoch in which it was closest
    to the closed form on held-out head rows. Training then ends when PATIENCE times as many steps brought it no closer, within
    FLOOR and CEILING.
    """
    stg = build(rows.fit.width, len(rows.heads), settings, seed)
    optimizer = torch.optim.Adam(stg.parameters(), lr=settings.learning_rate, fused=True)
    estimator = TargetEstimator(rows.fit, settings)
    best = None if settings.epochs else Best(rows, settings)
    epochs = settings.epochs or _most_epochs(rows.fit, settings)
    steps, mean_loss = 0, float("nan")
    with track(epochs * len(rows.fit.labels_N), "train-stg", "rows") as bar:
        for epoch in range(epochs):
            losses = _epoch(stg, optimizer, estimator, rows.fit, settings, generator(seed, "stg", epoch), bar)
            steps += len(losses)
            mean_loss = sum(losses) / max(1, len(losses))
            if not math.isfinite(mean_loss):
                raise TrainingError(
                    f"train-stg: the loss is not finite in epoch {epoch + 1} of {epochs} at rate "
                    f"{settings.learning_rate}; lower stg.learning_rate or use stg.loss=mse-log"
                )
            if log is not None:
                log.write(epoch=epoch + 1, loss=mean_loss)
            if best is not None and not best.goes_on(stg, steps):
                break
    if best is not None:
        stg.load_state_dict(best.state)
        steps = best.steps
    return stg.eval(), steps, mean_loss


def most_steps(rows: int, width: int, settings: STG) -> int:
    """The steps after which an open-ended training on so many rows of features ends at the latest."""
    ceiling = NARROW_CEILING if is_narrow(width, settings) else CEILING
    return min(max(EPOCHS * _steps_an_epoch(rows, settings), FLOOR), ceiling)


def _most_epochs(fit: Features, settings: STG) -> int:
    rows = len(fit.labels_N)
    return math.ceil(most_steps(rows, fit.width, settings) / _steps_an_epoch(rows, settings))


def _steps_an_epoch(rows: int, settings: STG) -> int:
    return max(1, rows // settings.batch_size)


def is_narrow(width: int, settings: STG) -> bool:
    """Whether features of D = `width` channels get narrow networks in place of the paper's, which grow as D^2."""
    left_open = settings.network == "auto" and settings.hidden == STG().hidden and settings.similarity != "soft"
    return left_open and width > WIDE


def hidden_layers(width: int, settings: STG) -> tuple[float, ...]:
    """The widths of the hidden layers, in feature widths: those of the settings, or NARROW units where they are narrow."""
    if not is_narrow(width, settings):
        return settings.hidden
    return tuple(NARROW / width for _ in settings.hidden)


@dataclass
class Best:
    """The generator that was closest to the closed form on held-out head rows, so far."""

    rows: HeadRows
    settings: STG
    loss: float = math.inf
    steps: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._statistics = split_statistics(self.rows.fit, len(self.rows.heads))
        self._next = 0

    def goes_on(self, stg: SemanticTransformationGenerator, steps: int) -> bool:
        """Whether to train on after so many steps. Asked each time that their number has grown by a tenth."""
        if steps < self._next:
            return True
        self._next = steps + max(1, steps // 10)
        loss = self._loss(stg)
        if loss < self.loss or not self.state:
            self.loss, self.steps = loss, steps
            self.state = {name: tensor.clone() for name, tensor in stg.state_dict().items()}
        return steps < max(FLOOR, PATIENCE * self.steps)

    @torch.no_grad()
    def _loss(self, stg: SemanticTransformationGenerator) -> float:
        stg.eval()
        held_out, total = self.rows.held_out, 0.0
        for rows_B in held_out.blocks():
            features_BD, labels_B = held_out.gather(0, rows_B), held_out.labels_N[rows_B]
            wanted_BD, wanted_variance_BD = closed_form(features_BD, labels_B, self._statistics)
            mean_BD, variance_BD = stg(features_BD, labels_B)
            loss = regression_loss(mean_BD, variance_BD, wanted_BD, wanted_variance_BD, self.settings.loss)
            total += float(loss) * len(rows_B)
        return total / len(held_out.labels_N)


def build(width: int, heads: int, settings: STG, seed: int) -> SemanticTransformationGenerator:
    """A new generator, initialised from the seed alone."""
    hidden, offset = hidden_layers(width, settings), is_narrow(width, settings)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(derive(seed, "stg-init"))
        stg = SemanticTransformationGenerator(width, heads, hidden, settings.variance, settings.token_std, offset)
    return stg.to(torch.get_default_device())


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
        view_B = sampled(torch.randint, fit.views, (len(rows_B),), generator=draws)
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
    for rows_B in sampled(torch.randperm, rows, generator=draws).split(size):
        if len(rows_B) > 1:
            yield rows_B
