"""Stage 2: learn the Semantic Transformation Generator from the head classes' cached features."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torch.nn import functional

from cache import FeatureCache
from pipeline import features, runs, stg_file
from pipeline.errors import DataError, TrainingError
from pipeline.estimator import TargetEstimator
from pipeline.features import Features
from pipeline.progress import Track, note, track
from pipeline.rng import derive, generator
from pipeline.settings import STG, Settings
from pipeline.stg import VARIANCE_FLOOR, SemanticTransformationGenerator, regression_loss, split_statistics
from pipeline.transfer import closed_form, head_classes


class Distance(BaseModel):
    """How far the generator is from the closed form on head samples it has not seen.

    Mean over rows of the cosine and of the norm ratio |mu_stg| / |mu_closed|; relative squared errors of mean and log
    variance, 1 being no better than one number for all rows and channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    mean_cosine: float
    mean_norm_ratio: float
    mean_relative_error: float
    log_variance_relative_error: float


class STGResult(BaseModel):
    """What metrics.json of a stage-2 run holds; `held_out` is the distance from the closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = "stg"
    dataset: str
    cache: str
    digest: str
    head_classes: list[int]
    steps: int
    loss: float
    held_out: Distance
    seconds: float


@dataclass(frozen=True)
class HeadRows:
    """Head-class rows with labels 0..H-1, split into rows to fit and rows held out."""

    fit: Features
    held_out: Features
    heads: list[int]


def stg_folder(settings: Settings, cache: FeatureCache, root: Path) -> Path:
    """The run folder of the generator that these settings learn from this cache."""
    key = runs.key_of(stage="stg", stg=settings.stg, seed=settings.seed, cache=cache.key)
    return runs.run_folder(root, settings.name, "stg", key)


def train_stg(settings: Settings, cache: FeatureCache, root: Path) -> tuple[Path, STGResult]:
    """Learn the generator, or take it as it is where an equal key says it is done: its run folder and figures.

    Raises DataError where no class, or every class, is a head class, or a head class is too small to learn from.
    """
    folder = stg_folder(settings, cache, root)
    if runs.is_done(folder):
        note(f"done already: {folder}", level=2)
        return folder, runs.read_result(folder, STGResult)
    started = time.monotonic()
    train = features.load(cache, views=settings.stg.views, ram_limit=settings.ram_limit)
    rows = head_rows(train, cache.classes, settings.stg, settings.seed)
    runs.start(folder, settings)
    with runs.log(folder) as log:
        stg, steps, loss = fit(rows, settings.stg, settings.seed, log)
        held_out = distance(stg, rows)
        log.write(held_out=held_out.model_dump())
    trained = stg_file.TrainedSTG(stg, rows.heads, split_statistics(rows.fit, len(rows.heads)).mean_CD)
    digest = stg_file.save(folder, trained, settings.stg, cache)
    result = STGResult(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        digest=digest,
        head_classes=rows.heads,
        steps=steps,
        loss=loss,
        held_out=held_out,
        seconds=round(time.monotonic() - started, 3),
    )
    runs.write_json(folder / "metrics.json", result)
    return folder, result


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
    rows: HeadRows, settings: STG, seed: int, log: runs.Log | None = None
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


@torch.no_grad()
def distance(stg: SemanticTransformationGenerator, rows: HeadRows) -> Distance:
    """The generator against the closed form of the fitted rows, on the held-out rows' clean features."""
    stg, held_out = stg.eval(), rows.held_out
    statistics = split_statistics(rows.fit, len(rows.heads))
    means, logs = _Errors(), _Errors()
    cosine, ratio = 0.0, 0.0
    for rows_B in held_out.blocks():
        features_BD, labels_B = held_out.gather(0, rows_B), held_out.labels_N[rows_B]
        mean_BD, variance_BD = stg(features_BD, labels_B)
        wanted_mean_BD, wanted_variance_BD = closed_form(features_BD, labels_B, statistics)
        means.add(mean_BD, wanted_mean_BD)
        logs.add((variance_BD + VARIANCE_FLOOR).log(), (wanted_variance_BD + VARIANCE_FLOOR).log())
        cosine += float(functional.cosine_similarity(mean_BD, wanted_mean_BD).double().sum())
        ratio += float((mean_BD.norm(dim=1) / wanted_mean_BD.norm(dim=1).clamp(min=1e-12)).double().sum())
    count = len(held_out.labels_N)
    return Distance(
        rows=count,
        mean_cosine=cosine / count,
        mean_norm_ratio=ratio / count,
        mean_relative_error=means.relative(),
        log_variance_relative_error=logs.relative(),
    )


@dataclass
class _Errors:
    """Sums over blocks for the squared error relative to the variance of what is wanted."""

    count: int = 0
    error: float = 0.0
    total: float = 0.0
    square: float = 0.0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        self.count += wanted.numel()
        self.error += float((found - wanted).double().square().sum())
        self.total += float(wanted.double().sum())
        self.square += float(wanted.double().square().sum())

    def relative(self) -> float:
        spread = self.square / self.count - (self.total / self.count) ** 2
        return self.error / self.count / max(spread, 1e-12)
