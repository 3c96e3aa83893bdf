"""A sweep: every point of a grid of settings, a run folder each, those of one shape trained side by side; then the choice."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cache import FeatureCache
from cache.disk import durable
from cache.errors import CacheError
from pipeline.artefacts import folders
from pipeline.errors import ConfigError, PipelineError
from pipeline.features import is_unseen
from pipeline.machine.device import with_device
from pipeline.progress import note, on_interrupt, track
from pipeline.results import frame, parquet
from pipeline.settings.stage3 import uses_stg
from pipeline.stage2_stg import train_stg
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import Run, done_already, planned, split_figures
from pipeline.stage3_together import SHARE_OF_RAM, Program, programs
from pipeline.sweeping.plan import GridPoint, SweepFile
from pipeline.sweeping.record import Failure, SweepResult, places_of
from pipeline.sweeping.spread import Workers, spread
from pipeline.sweeping.work import CROSS_VALIDATION, Outcome, Task, pack, unpack


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
    where there is nothing to choose on or a device cannot be used; with `fail_fast`, PipelineError at the first point that fails.
    """
    split, why_not = choose_on(job.select_on, job.cache)
    job = replace(job, points=[replace(point, settings=with_device(point.settings)) for point in job.points])
    failures: dict[int, str] = {}
    stgs = _generators(job, failures)
    runs = _planned(job, stgs, failures)
    points = len({*runs, *failures})
    wanted = None if split in (None, "test") else split
    waiting = [number for number, run in runs.items() if not _is_done(run, wanted)]
    _train(job, runs, stgs, waiting, wanted, failures)
    results = {number: figures for number, run in runs.items() if (figures := done_already(run)) is not None}
    places = places_of(job.points, runs, results, split)
    result = SweepResult(
        file=str(job.file.path),
        dataset=job.cache.manifest.provenance.name,
        cache=job.cache.key,
        selected_on=split,
        metric=job.points[0].settings.choice.metric,
        why_not=why_not,
        warning=TEST_WARNING if split == "test" else None,
        test_views=max((figures.test_views for figures in results.values()), default=1),
        varied=job.file.varied,
        points=points,
        places=places,
        failures=[Failure(point=str(job.points[number]), error=text) for number, text in sorted(failures.items())],
    )
    in_folders = [(runs[number].folder, figures) for number, figures in results.items()]
    return _publish(job, result, in_folders), result


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


def _planned(job: Sweep, stgs: dict[int, Path], failures: dict[int, str]) -> dict[int, Run]:
    """Each point's run. Of points that mean the same run, such as `auto` and the number that it stands for, the first alone."""
    runs: dict[int, Run] = {}
    first_of: dict[Path, int] = {}
    for number, point in enumerate(job.points):
        if number in failures:
            continue
        run = planned(point.settings, job.cache, job.root, stgs.get(number))
        first = first_of.setdefault(run.folder, number)
        if first == number:
            runs[number] = run
        else:
            note(f"{point}: the same run as {job.points[first]}")
    return runs


def _is_done(run: Run, split: str | None) -> bool:
    return done_already(run) is not None and (split is None or split_figures(run, split) is not None)


def _generators(job: Sweep, failures: dict[int, str]) -> dict[int, Path]:
    """The generator's run folder of each point that wants one; equal settings share one."""
    wanting = [number for number, point in enumerate(job.points) if uses_stg(point.settings.retrain)]
    stgs: dict[int, Path] = {}
    for number in wanting:  # each shows its own progress
        try:
            stgs[number], _ = train_stg(job.points[number].settings, job.cache, job.root)
        except (PipelineError, CacheError) as error:
            _fail(job, failures, number, str(error))
    return stgs


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
    _say_plan(job, grouped, len({*runs, *failures}), len(runs) - len(waiting))
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
    """Bytes that one program may take, of this machine's RAM whatever the device."""
    if not hasattr(os, "sysconf"):  # Windows
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (SHARE_OF_RAM * max(1, workers.jobs))


def _say_plan(job: Sweep, grouped: Sequence[Program], points: int, done: int) -> None:
    width, classes = job.cache.manifest.identity.width, len(job.cache.classes)
    largest = max((program.bytes(width, classes) for program in grouped), default=0)
    replicas = sum(program.replicas for program in grouped)
    note(
        f"sweep: {points} points, {done} done already; {len(grouped)} programs of {replicas} replicas in all, each "
        f"at most {largest / 2**20:,.0f} MiB beside the features"
    )


def _publish(job: Sweep, result: SweepResult, results: list[tuple[Path, RetrainResult]]) -> Path:
    """Write the sweep's folder: its file, the figures of all runs, and, last, the result. Returns the folder."""
    digests = [
        point.settings.model_dump(mode="json", exclude={"device"}) | point.settings.device_key for point in job.points
    ]
    key = folders.key_of(stage="sweep", cache=job.cache.key, points=digests)
    folder = folders.run_folder(job.root, job.points[0].settings.name, "sweep", key)
    durable.make_folder(folder)
    folders.write_text(folder / "sweep.toml", job.file.text)
    durable.replace(folder / "results.parquet", parquet(frame(results)))
    folders.write_json(folder / "sweep.json", result)
    return folder
