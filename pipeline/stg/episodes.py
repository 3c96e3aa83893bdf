"""Learning from episodes: a few rows of a head class are shown, and the statistics of its other rows are asked for."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pipeline.artefacts import folders
from pipeline.errors import DataError, TrainingError
from pipeline.features import Features
from pipeline.longtail import head_classes
from pipeline.progress import track
from pipeline.rng import derive, generator
from pipeline.settings.stage2 import STG
from pipeline.stg.distance import Distance, Distances
from pipeline.stg.generator import VARIANCE_FLOOR
from pipeline.stg.soft import SoftGenerator, lenders
from pipeline.stg.statistics import ClassStatistics, class_statistics

MOST_ROWS = 50
"""Rows of a class that an episode shows at most."""
HELD_OUT_CLASSES = 0.2
"""Share of the head classes, one at least, that no episode of the training shows or lends."""
FEWEST_HEADS, FEWEST_ROWS = 4, 4
"""Head classes that are wanted at least, and rows of each: an episode shows half of them at most."""
EPISODES, JUDGED = 32, 256
"""Episodes of a step, and those that the held-out classes are judged by."""
CHANNELS = 128
"""Channels of a step at most: the network is the same for all."""
RATE = 3e-3
EVERY, PATIENCE_CHECKS, CEILING = 25, 8, 1500
"""Held-out classes are looked at after every 25 steps; training ends when 8 looks brought nothing better, or by the ceiling."""


@dataclass(frozen=True)
class Episodes:
    """E episodes: mean of the rows shown (E, D), how many (E,), position of the class among the lenders or -1 (E,); and what is
    asked for, mean and log variance (E, D)."""

    shown_ED: Tensor
    count_E: Tensor
    own_E: Tensor
    mean_ED: Tensor
    log_variance_ED: Tensor


@dataclass(frozen=True)
class HeadClasses:
    """Rows of the head classes, clean features; which classes lend and are learnt from, and which are held out."""

    rows_C: dict[int, Tensor]
    heads: list[int]
    fitted: list[int]
    held_out: list[int]

    def statistics(self, chosen: list[int]) -> ClassStatistics:
        """Of all rows of each chosen class, in this order."""
        labels = torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(self.rows_C[c]) for c in chosen]))
        return class_statistics(torch.cat([self.rows_C[c] for c in chosen]), labels, len(chosen))

    def draw(self, classes: list[int], episodes: int, source: Generator) -> Episodes:
        """Episodes of these classes. How many rows are shown is uniform in its logarithm.

        The statistics asked for are of the rows not shown. Those of all rows hold the shown ones, so they would reward a
        generator for trusting what it sees.
        """
        shown, counts, own, means, logs = [], [], [], [], []
        for _ in range(episodes):
            c = classes[int(torch.randint(len(classes), (), generator=source))]
            rows_ND = self.rows_C[c]
            most = min(MOST_ROWS, len(rows_ND) // 2)
            count = min(most, int(math.exp(float(torch.rand((), generator=source)) * math.log(most + 1))))
            order_N = torch.randperm(len(rows_ND), generator=source)
            rest_KD = rows_ND[order_N[count:]]
            shown.append(rows_ND[order_N[:count]].mean(dim=0))
            counts.append(count)
            own.append(self.fitted.index(c) if c in self.fitted else -1)
            means.append(rest_KD.mean(dim=0))
            logs.append((rest_KD.var(dim=0) + VARIANCE_FLOOR).log())
        return Episodes(
            torch.stack(shown), torch.tensor(counts), torch.tensor(own), torch.stack(means), torch.stack(logs)
        )


def split_heads(train: Features, settings: STG, seed: int) -> HeadClasses:
    """The head classes with enough rows, some held out (seeded). Raises DataError where there are too few."""
    counts = train.counts_C.tolist()
    heads = head_classes(counts, settings)
    enough = [c for c in heads if counts[c] >= FEWEST_ROWS]
    if len(enough) < FEWEST_HEADS:
        raise DataError(
            f"stg.similarity=soft: learns from {FEWEST_HEADS} or more head classes of {FEWEST_ROWS} or more rows, found "
            f"{len(enough)}; raise stg.head_classes, or use stg.similarity=l2"
        )
    rows_C = {c: train.gather(0, (train.labels_N == c).nonzero()[:, 0]) for c in enough}
    order = torch.randperm(len(enough), generator=generator(seed, "held-out-classes")).tolist()
    cut = max(1, int(HELD_OUT_CLASSES * len(enough)))
    return HeadClasses(rows_C, enough, sorted(enough[i] for i in order[cut:]), sorted(enough[i] for i in order[:cut]))


def fit_soft(
    heads: HeadClasses, seed: int, log: folders.Log | None = None
) -> tuple[SoftGenerator, int, float, Distance]:
    """The generator whose error on episodes of held-out head classes was least; its steps, that error, and its distance.

    Training starts at the closed form, so that is what comes back where nothing better is learnt. In the end all head classes
    lend.
    """
    fitted = heads.statistics(heads.fitted)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "stg-init"))
        stg = SoftGenerator(lenders(fitted.mean_CD, fitted.variance_CD, fitted.count_C))
    judged = heads.draw(heads.held_out, JUDGED, generator(seed, "stg", "judged"))
    start, source = _error(stg, judged), generator(seed, "stg", "episodes")
    best, steps, state = start, 0, {name: tensor.clone() for name, tensor in stg.state_dict().items()}
    optimizer = torch.optim.Adam(stg.parameters(), lr=RATE)
    with track(CEILING, "train-stg", "steps") as bar:
        for step in range(1, CEILING + 1):
            _step(stg, optimizer, heads.draw(heads.fitted, EPISODES, source), source)
            bar.advance(1)
            if step % EVERY:
                continue
            error = _error(stg, judged)
            if not math.isfinite(error):
                raise TrainingError(f"train-stg: the error on held-out head classes is not finite after {step} steps")
            if log is not None:
                log.write(step=step, held_out_error=error)
            if error < best:
                best, steps = error, step
                state = {name: tensor.clone() for name, tensor in stg.state_dict().items()}
            elif step >= steps + EVERY * PATIENCE_CHECKS:
                break
    stg.load_state_dict(state)
    distance = judge(stg, judged)
    every = heads.statistics(heads.heads)
    stg.lend(lenders(every.mean_CD, every.variance_CD, every.count_C))
    return stg.eval(), steps, best, distance


def _step(stg: SoftGenerator, optimizer: torch.optim.Optimizer, episodes: Episodes, source: Generator) -> None:
    width = episodes.shown_ED.shape[1]
    channels = torch.randperm(width, generator=source)[:CHANNELS]
    loss = _loss(stg, episodes, channels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _loss(stg: SoftGenerator, episodes: Episodes, channels: Tensor) -> Tensor:
    """Mean squared error of the means, in units of the spread within classes, and of the log variances."""
    mean_EK, variance_EK = stg(episodes.shown_ED, episodes.count_E, episodes.own_E, channels)
    away_EK = (mean_EK - episodes.mean_ED[:, channels]) / stg.within_D[channels].sqrt()
    log_variance_EK = (variance_EK + VARIANCE_FLOOR).log()
    return away_EK.square().mean() + functional.mse_loss(log_variance_EK, episodes.log_variance_ED[:, channels])


@torch.no_grad()
def _error(stg: SoftGenerator, episodes: Episodes) -> float:
    return float(_loss(stg, episodes, torch.arange(episodes.shown_ED.shape[1])))


@torch.no_grad()
def judge(stg: SoftGenerator, episodes: Episodes) -> Distance:
    """How far the generator and its closed form are from the statistics asked for, on episodes of classes it has not seen."""
    mean_ED, variance_ED = stg(episodes.shown_ED, episodes.count_E, episodes.own_E)
    closed = SoftGenerator(stg.lenders())
    closed_mean_ED, _ = closed(episodes.shown_ED, episodes.count_E, episodes.own_E)
    distances, closed_distances = Distances(), Distances()
    wanted_ED = episodes.mean_ED - episodes.shown_ED
    wanted_variance_ED = episodes.log_variance_ED.exp()
    distances.add(mean_ED - episodes.shown_ED, variance_ED, wanted_ED, wanted_variance_ED)
    closed_distances.add(closed_mean_ED - episodes.shown_ED, variance_ED, wanted_ED, wanted_variance_ED)
    return distances.result(closed_distances.result().zero_shift_ratio)
