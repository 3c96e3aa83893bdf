"""What a sweep says: the places of its grid, the chosen one, and the points that failed."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.results import settings_digest
from pipeline.stage3_record import FIGURES, RetrainResult
from pipeline.stage3_retrain import Run, split_figures
from pipeline.sweeping.plan import GridPoint


class GridPlace(BaseModel):
    """The runs of one place of the grid: the same settings but for the seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    settings: str
    """Digest of the settings without the seeds."""
    values: dict[str, Any]
    seeds: list[int]
    score: float | None
    """The figure that the choice is made by, percent, mean over the seeds; None where no split may be chosen on."""
    mean: dict[str, float | None]
    """Figures on the test split, percent, mean over the seeds."""
    seconds: float
    chosen: bool
    runs: list[str]


class Failure(BaseModel):
    """A point that failed, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    point: str
    error: str


class SweepResult(BaseModel):
    """What sweep.json holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    dataset: str
    cache: str
    selected_on: str | None
    """`val`, `cross-validation`, `test`; None: nothing was chosen, `why_not` says why."""
    metric: str
    why_not: str | None
    warning: str | None
    test_views: int = 1
    """Over how many views of each test row probabilities were averaged."""
    varied: list[str]
    points: int
    places: list[GridPlace]
    failures: list[Failure]


def places_of(
    points: Sequence[GridPoint], runs: dict[int, Run], results: dict[int, RetrainResult], split: str | None
) -> list[GridPlace]:
    """The finished points by their settings, seeds together; the chosen one is marked."""
    by_settings: dict[str, list[int]] = {}
    for number, result in results.items():
        key = f"{result.method} {settings_digest(result.settings)}"
        by_settings.setdefault(key, []).append(number)
    scores = {
        key: _mean(_score(runs[number], results[number], split) for number in numbers)
        for key, numbers in by_settings.items()
    }
    best = max((score for score in scores.values() if score is not None), default=None)
    winner = next((key for key, score in scores.items() if score is not None and score == best), None)
    return [
        _place(points, key, numbers, runs, results, scores[key], key == winner) for key, numbers in by_settings.items()
    ]


def _score(run: Run, result: RetrainResult, split: str | None) -> float | None:
    if split is None:
        return None
    there = result if split == "test" else split_figures(run, split)
    if there is None:
        return None
    return there.accuracy if run.settings.choice.metric == "accuracy" else there.balanced_accuracy


def _place(
    points: Sequence[GridPoint],
    key: str,
    numbers: list[int],
    runs: dict[int, Run],
    results: dict[int, RetrainResult],
    score: float | None,
    chosen: bool,
) -> GridPlace:
    each = [results[number] for number in numbers]
    seeds = sorted(seed for result in each for seed in result.seeds)
    values = dict(points[numbers[0]].values)
    values.pop("seed", None)
    return GridPlace(
        method=each[0].method,
        settings=key.rpartition(" ")[2],
        values=values,
        seeds=seeds,
        score=score,
        mean={
            name: _mean(getattr(metrics, name) for result in each for metrics in result.each_seed) for name in FIGURES
        },
        seconds=sum(result.seconds for result in each),
        chosen=chosen,
        runs=[str(runs[number].folder) for number in numbers],
    )


def _mean(values: Any) -> float | None:
    known = list(values)
    return None if not known or None in known else mean(known)
