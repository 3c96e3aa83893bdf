"""Learning from episodes: a few rows of a head class are shown, and the statistics of its other rows are asked for."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional

from pipeline.artefacts import folders
from pipeline.errors import DataError, TrainingError
from pipeline.features import Features, take
from pipeline.longtail import head_classes
from pipeline.progress import track
from pipeline.rng import derive, generator, sampled
from pipeline.settings.stage2 import STG
from pipeline.stg.distance import Distance, Distances
from pipeline.stg.generator import VARIANCE_FLOOR
from pipeline.stg.soft import Lenders, SoftGenerator, lenders
from pipeline.stg.statistics import ClassStatistics, head_statistics

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
    """The head classes' clean rows about the mean of their class, class by class, (N, D); which are held out of learning."""

    centred_ND: Tensor
    statistics: ClassStatistics
    """Of all rows of each class, in the order of `heads`."""
    heads: list[int]
    fitted: list[int]
    held_out: list[int]
    """Positions in `heads`: classes that lend and are learnt from, and classes that no episode of the training shows."""

    def lending(self, chosen: list[int]) -> Lenders:
        """The classes at these positions as lenders."""
        every = self.statistics
        return lenders(every.mean_CD[chosen], every.variance_CD[chosen], every.count_C[chosen])

    def draw(self, chosen: list[int], episodes: int, source: Generator) -> Episodes:
        """Episodes of the classes at these positions. How many rows are shown is uniform in its logarithm.

        The statistics asked for are of the rows not shown. Those of all rows hold the shown ones, so they would reward a
        generator for trusting what it sees.
        """
        class_E = torch.tensor(chosen)[sampled(torch.randint, len(chosen), (episodes,), generator=source)]
        rows_E = self.statistics.count_C[class_E]
        most_E = (rows_E // 2).clamp(max=MOST_ROWS)
        drawn_E = (sampled(torch.rand, episodes, generator=source) * (most_E + 1).log()).exp().long()
        count_E = torch.minimum(drawn_E.clamp(min=1), most_E)
        key_EN = sampled(torch.rand, episodes, int(rows_E.max()), generator=source)
        order_EN = key_EN.masked_fill(torch.arange(key_EN.shape[1]) >= rows_E[:, None], 2.0).argsort(dim=1)
        taken_EK = torch.arange(int(count_E.max())) < count_E[:, None]
        first_E = (self.statistics.count_C.cumsum(0) - self.statistics.count_C)[class_E]
        row_EK = torch.where(taken_EK, first_E[:, None] + order_EN[:, : taken_EK.shape[1]], 0)
        shown_EKD = take(self.centred_ND, row_EK) * taken_EK[..., None]
        rest_E1 = (rows_E - count_E)[:, None]
        # Rows are centred on their class's mean, so those that are not shown sum to minus those that are.
        rest_ED = -shown_EKD.sum(dim=1) / rest_E1
        square_ED = rows_E[:, None] * self.statistics.variance_CD[class_E] - shown_EKD.square().sum(dim=1)
        variance_ED = (square_ED - rest_E1 * rest_ED.square()).clamp(min=0) / (rest_E1 - 1)
        own_C = torch.full((len(self.heads),), -1)
        own_C[self.fitted] = torch.arange(len(self.fitted))
        mean_ED = self.statistics.mean_CD[class_E]
        return Episodes(
            mean_ED + shown_EKD.sum(dim=1) / count_E[:, None],
            count_E,
            own_C[class_E],
            mean_ED + rest_ED,
            (variance_ED + VARIANCE_FLOOR).log(),
        )


def split_heads(train: Features, settings: STG, seed: int) -> HeadClasses:
    """The head classes with enough rows, some held out (seeded). Raises DataError where there are too few."""
    counts = train.counts_C.tolist()
    enough = [c for c in head_classes(counts, settings) if counts[c] >= FEWEST_ROWS]
    if len(enough) < FEWEST_HEADS:
        raise DataError(
            f"stg.similarity=soft: learns from {FEWEST_HEADS} or more head classes of {FEWEST_ROWS} or more rows, found "
            f"{len(enough)}; raise stg.head_classes, or use stg.similarity=l2"
        )
    statistics = head_statistics(train, enough)
    centred = [
        train.gather(0, (train.labels_N == c).nonzero()[:, 0]) - statistics.mean_CD[position]
        for position, c in enumerate(enough)
    ]
    order = sampled(torch.randperm, len(enough), generator=generator(seed, "held-out-classes")).tolist()
    cut = max(1, int(HELD_OUT_CLASSES * len(enough)))
    return HeadClasses(torch.cat(centred), statistics, enough, sorted(order[cut:]), sorted(order[:cut]))


def fit_soft(
    heads: HeadClasses, seed: int, log: folders.Log | None = None
) -> tuple[SoftGenerator, int, float, Distance]:
    """The generator whose error on episodes of held-out head classes was least; its steps, that error, and its distance.

    Training starts at the closed form, so that is what comes back where nothing better is learnt. In the end all head classes
    lend.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "stg-init"))
        stg = SoftGenerator(heads.lending(heads.fitted))
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
    stg.lend(heads.lending([*range(len(heads.heads))]))
    return stg.eval(), steps, best, distance


def _step(stg: SoftGenerator, optimizer: torch.optim.Optimizer, episodes: Episodes, source: Generator) -> None:
    width = episodes.shown_ED.shape[1]
    channels = sampled(torch.randperm, width, generator=source)[:CHANNELS]
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
