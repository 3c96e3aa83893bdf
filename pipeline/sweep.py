"""A sweep: every point of a grid of settings, a run folder each, those of one shape trained side by side; then the choice."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import BaseModel, ConfigDict

from cache import FeatureCache
from cache.disk import durable
from cache.errors import CacheError
from pipeline.artefacts import folders
from pipeline.errors import ConfigError, PipelineError
from pipeline.features import is_unseen
from pipeline.progress import note, on_interrupt, track
from pipeline.results import frame, parquet, settings_digest
from pipeline.settings.stage3 import uses_stg
from pipeline.stage2_stg import train_stg
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import Run, done_already, planned, split_figures
from pipeline.stage3_together import SHARE_OF_RAM, Program, programs
from pipeline.sweeping.plan import GridPoint, SweepFile
from pipeline.sweeping.spread import Workers, spread
from pipeline.sweeping.work import CROSS_VALIDATION, Outcome, Task, pack, unpack

SELECT_ON = ("auto", "val", CROSS_VALIDATION, "test")


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
    varied: list[str]
    points: int
    places: list[GridPlace]
    failures: list[Failure]


@dataclass(frozen=True)
class Sweep:
    """A sweep on one cache."""

    file: SweepFile
    points: Sequence[GridPoint]
    cache: FeatureCache
    address: str
    """The cache's folder, or where a worker without this disk finds it."""
    root: Path
    workers: Workers = field(default_factory=Workers)
    select_on: str = "auto"
    fail_fast: bool = False


def sweep(job: Sweep) -> tuple[Path, SweepResult]:
    """Run every point that has not been run, then choose the best. Returns the sweep's folder and its result.

    Points are resumed by their settings' digests: each is a run folder, which exists whole or not at all. Raises ConfigError
    where there is nothing to choose on, and, with `fail_fast`, PipelineError at the first point that fails.
    """
    split, why_not = choose_on(job.select_on, job.cache)
    failures: dict[int, str] = {}
    stgs = _generators(job, failures)
    runs = {
        number: planned(point.settings, job.cache, job.root, stgs.get(number))
        for number, point in enumerate(job.points)
        if number not in failures
    }
    wanted = None if split in (None, "test") else split
    waiting = [number for number, run in runs.items() if not _is_done(run, wanted)]
    _train(job, runs, stgs, waiting, wanted, failures)
    results = {number: figures for number, run in runs.items() if (figures := done_already(run)) is not None}
    places = _places(job, runs, results, split)
    result = SweepResult(
        file=str(job.file.path),
        dataset=job.cache.manifest.provenance.name,
        cache=job.cache.key,
        selected_on=split,
        metric=job.points[0].settings.choice.metric,
        why_not=why_not,
        warning=TEST_WARNING if split == "test" else None,
        varied=job.file.varied,
        points=len(job.points),
        places=places,
        failures=[Failure(point=str(job.points[number]), error=text) for number, text in sorted(failures.items())],
    )
    return _publish(
        job, result, [(runs[number].folder, folders_done) for number, folders_done in results.items()]
    ), result


TEST_WARNING = (
    "selected on the test split: its figure is optimistic, and no figure of new images; for comparison with published numbers "
    "that were chosen so"
)


def choose_on(select_on: str, cache: FeatureCache) -> tuple[str | None, str | None]:
    """(`val`, `cross-validation` or `test`, None), or (None, the reason). ConfigError where the cache lacks what is asked."""
    seen = (
        "its backbone was trained on the training rows, so folds of them say nothing of new images; extract a val split, or see "
        "all points and choose none"
    )
    if select_on == "test":
        return "test", None
    if "val" in cache.splits and select_on in ("auto", "val"):
        return "val", None
    if select_on == "val":
        raise ConfigError(f"--select-on val: cache {cache.key[:12]} has no split val, found {', '.join(cache.splits)}")
    if is_unseen(cache):
        return CROSS_VALIDATION, None
    if select_on == CROSS_VALIDATION:
        raise ConfigError(f"--select-on {CROSS_VALIDATION}: cache {cache.key[:12]}: {seen}")
    return None, f"cache {cache.key[:12]} has no split val, and {seen}"


def _is_done(run: Run, split: str | None) -> bool:
    return done_already(run) is not None and (split is None or split_figures(run, split) is not None)


def _generators(job: Sweep, failures: dict[int, str]) -> dict[int, Path]:
    """The generator's run folder of each point that wants one; equal settings share one."""
    wanting = [number for number, point in enumerate(job.points) if uses_stg(point.settings.retrain)]
    folders_done: dict[int, Path] = {}
    for number in wanting:  # each shows its own progress
        try:
            folders_done[number], _ = train_stg(job.points[number].settings, job.cache, job.root)
        except (PipelineError, CacheError) as error:
            _fail(job, failures, number, str(error))
    return folders_done


def _fail(job: Sweep, failures: dict[int, str], number: int, text: str) -> None:
    failures[number] = text
    if job.fail_fast:
        raise PipelineError(f"sweep: at {job.points[number]}: {text}; what was finished is kept")
    note(f"failed: {job.points[number]}: {text}")


def _train(
    job: Sweep,
    runs: dict[int, Run],
    stgs: dict[int, Path],
    waiting: list[int],
    split: str | None,
    failures: dict[int, str],
) -> None:
    numbers = {runs[number].folder: number for number in waiting}
    grouped = programs([runs[number] for number in waiting], job.cache, _memory(job.workers))
    _say_plan(job, grouped, len(job.points) - len(waiting) - len(failures))
    tasks = [_task(job, program, stgs.get(numbers[program.runs[0].folder]), split) for program in grouped]
    with (
        on_interrupt("every finished point is kept; the same command goes on with the others"),
        track(len(waiting), "sweep", "points", shown=len(tasks) > 1) as bar,
    ):
        for position, outcomes in spread(tasks, job.workers):
            for run, outcome in zip(grouped[position].runs, outcomes, strict=True):
                _take(job, run, outcome, numbers[run.folder], failures)
            bar.advance(len(outcomes))


def _take(job: Sweep, run: Run, outcome: Outcome, number: int, failures: dict[int, str]) -> None:
    """Keep what a worker sent back, and note a failure."""
    if outcome.files:
        unpack(run.folder, outcome.files)
    if outcome.error:
        _fail(job, failures, number, outcome.error)


def _task(job: Sweep, program: Program, stg: Path | None, split: str | None) -> Task:
    settings = tuple(run.settings for run in program.runs)
    if job.workers.share_the_disk:
        return Task(settings, str(job.cache.path), str(job.root), None if stg is None else str(stg), {}, split)
    return Task(settings, job.address, "", None, {} if stg is None else pack(stg), split)


def _memory(workers: Workers) -> int | None:
    """Bytes that one program may take."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (SHARE_OF_RAM * max(1, workers.jobs))


def _say_plan(job: Sweep, grouped: Sequence[Program], done: int) -> None:
    width, classes = job.cache.manifest.identity.width, len(job.cache.classes)
    largest = max((program.bytes(width, classes) for program in grouped), default=0)
    replicas = sum(program.replicas for program in grouped)
    note(
        f"sweep: {len(job.points)} points, {done} done already; {len(grouped)} programs of {replicas} replicas in all, each "
        f"at most {largest / 2**20:,.0f} MiB beside the features"
    )


def _places(job: Sweep, runs: dict[int, Run], results: dict[int, RetrainResult], split: str | None) -> list[GridPlace]:
    """The finished points by their settings, seeds together; the chosen one is marked."""
    by_settings: dict[str, list[int]] = {}
    for number, result in results.items():
        key = f"{result.method} {settings_digest(result.settings)}"
        by_settings.setdefault(key, []).append(number)
    scores = {key: _mean(_score(runs[n], results[n], split) for n in numbers) for key, numbers in by_settings.items()}
    best = max((score for score in scores.values() if score is not None), default=None)
    winner = next((key for key, score in scores.items() if score is not None and score == best), None)
    return [
        _place(job, key, numbers, runs, results, scores[key], key == winner) for key, numbers in by_settings.items()
    ]


def _score(run: Run, result: RetrainResult, split: str | None) -> float | None:
    if split is None:
        return None
    there = result if split == "test" else split_figures(run, split)
    if there is None:
        return None
    return there.accuracy if run.settings.choice.metric == "accuracy" else there.balanced_accuracy


def _place(
    job: Sweep,
    key: str,
    numbers: list[int],
    runs: dict[int, Run],
    results: dict[int, RetrainResult],
    score: float | None,
    chosen: bool,
) -> GridPlace:
    each = [results[number] for number in numbers]
    seeds = sorted(seed for result in each for seed in result.seeds)
    figures = ("accuracy", "balanced_accuracy", "many", "medium", "few", "ece")
    values = dict(job.points[numbers[0]].values)
    values.pop("seed", None)
    return GridPlace(
        method=each[0].method,
        settings=key.rpartition(" ")[2],
        values=values,
        seeds=seeds,
        score=score,
        mean={
            name: _mean(getattr(metrics, name) for result in each for metrics in result.each_seed) for name in figures
        },
        seconds=sum(result.seconds for result in each),
        chosen=chosen,
        runs=[str(runs[number].folder) for number in numbers],
    )


def _mean(values: Any) -> float | None:
    known = list(values)
    return None if not known or None in known else mean(known)


def _publish(job: Sweep, result: SweepResult, results: list[tuple[Path, RetrainResult]]) -> Path:
    """Write the sweep's folder: its file, the figures of all runs, and, last, the result. Returns the folder."""
    digests = [point.settings.model_dump(mode="json") for point in job.points]
    key = folders.key_of(stage="sweep", cache=job.cache.key, points=digests)
    folder = folders.run_folder(job.root, job.points[0].settings.name, "sweep", key)
    durable.make_folder(folder)
    folders.write_text(folder / "sweep.toml", job.file.text)
    durable.replace(folder / "results.parquet", parquet(frame(results)))
    folders.write_json(folder / "sweep.json", result)
    return folder
