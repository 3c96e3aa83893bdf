"""What one process of a sweep does: train the runs of a program, write their folders, and take the figures to choose by.

A process that shares the disk gets folders by their paths. One that does not, such as a cluster's worker, gets the generator as
bytes, pulls the cache from its address, and returns the run folders as bytes.
"""

import atexit
import functools
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cache import FeatureCache, sharing
from cache.disk import durable
from cache.format import layout
from cache.sharing import pull
from pipeline.artefacts import folders
from pipeline.classifiers.held_out import FOLDS
from pipeline.classifiers.selection import stratified_folds
from pipeline.errors import PipelineError, line_of
from pipeline.evaluate import Measured, measure, measured_logits, shift_to
from pipeline.features import load
from pipeline.settings import Settings
from pipeline.stage3_predictions import classifier_of
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import Run, done_already, planned, publish_split, seeds_of, split_figures
from pipeline.stage3_together import FAILURES, Program, failures, programs, train_program

CROSS_VALIDATION = "cross-validation"

Files = dict[str, bytes]
"""The content of a folder, by name."""


@dataclass(frozen=True)
class Task:
    """Runs to train together, by their settings, on one cache."""

    settings: tuple[Settings, ...]
    cache: str
    """The cache's folder, or its address s3://BUCKET/FOLDER/KEY."""
    root: str
    """Where run folders are; empty where the worker does not share the disk."""
    stg: str | None = None
    """The run folder of the generator."""
    stg_files: Files = field(default_factory=dict)
    """The same as bytes, for a worker that does not share the disk."""
    choose_on: str | None = None
    """What the figures to choose by are of: `val`, `cross-validation`, or None where none are wanted."""
    threads: int = 0
    """Threads of each process; 0: as torch has it."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    folder: str
    error: str = ""
    files: Files = field(default_factory=dict)
    """Its folder's content, from a worker that does not share the disk."""


def perform(task: Task) -> list[Outcome]:
    """Train a task's runs and return an outcome for each, in their order. A run that fails does not stop the others."""
    if task.threads:
        torch.set_num_threads(task.threads)
    if task.root:
        return _outcomes(
            task, FeatureCache.open(Path(task.cache)), Path(task.root), Path(task.stg) if task.stg else None
        )
    with tempfile.TemporaryDirectory(prefix="coattail-") as folder:
        root = Path(folder)
        stg = None
        if task.stg_files:
            stg = root / "own" / "stg"
            unpack(stg, task.stg_files)
        return [
            Outcome(str(Path(outcome.folder).relative_to(root)), outcome.error, pack(Path(outcome.folder)))
            for outcome in _outcomes(task, _pulled(task.cache), root, stg)
        ]


def pack(folder: Path) -> Files:
    """The files of a run folder; nothing where there is no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*")) if path.is_file()}


def unpack(folder: Path, files: Files) -> None:
    """Write a run folder's files, each whole or not at all, metrics.json last."""
    durable.make_folder(folder)
    for name in sorted(files, key=lambda name: name == "metrics.json"):
        if Path(name).name != name:
            raise PipelineError(f"{name!r}: wanted the name of a file, found a path")
        durable.replace(folder / name, files[name])


@functools.cache
def _stores() -> str:
    """A folder for the caches that this process pulls, which goes with the process."""
    folder = tempfile.mkdtemp(prefix="coattail-stores-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _pulled(address: str) -> FeatureCache:
    """The cache at an address, pulled once into a folder of this process's own."""
    place, _, key = address.rstrip("/").rpartition("/")
    path = Path(_stores()) / key
    if not (layout.KEY.fullmatch(key) and (path / "manifest.json").exists()):
        path = Path(pull.pull(pull.find(sharing.at(place), key), Path(_stores())).path)
    return FeatureCache.open(path)


def _outcomes(task: Task, cache: FeatureCache, root: Path, stg: Path | None) -> list[Outcome]:
    runs = [planned(settings, cache, root, stg) for settings in task.settings]
    errors: dict[Path, str] = {}
    for program in programs([run for run in runs if done_already(run) is None], cache):
        errors |= failures(program, cache)
    if task.choose_on:
        done = [run for run in runs if run.folder not in errors and split_figures(run, task.choose_on) is None]
        for program in programs(done, cache):
            errors |= _choice_errors(program, cache, task.choose_on)
    return [Outcome(str(run.folder), errors.get(run.folder, "")) for run in runs]


def _choice_errors(program: Program, cache: FeatureCache, choose_on: str) -> dict[Path, str]:
    try:
        if choose_on == CROSS_VALIDATION:
            for run, figures in zip(program.runs, _cross_validated(program, cache), strict=True):
                publish_split(run, choose_on, figures, test_views=1)
            return {}
        results = [folders.read_result(run.folder, RetrainResult) for run in program.runs]
        measured = [_on_split(run, result, cache, choose_on) for run, result in zip(program.runs, results, strict=True)]
        for run, result, figures in zip(program.runs, results, measured, strict=True):
            publish_split(run, choose_on, figures, result.test_views)
    except FAILURES as error:
        return {run.folder: f"{choose_on}: {line_of(error)}" for run in program.runs}
    return {}


def _on_split(run: Run, result: RetrainResult, cache: FeatureCache, split: str) -> Measured:
    classifier = classifier_of(run, result, cache)
    return measure(cache, split, classifier, run.settings, result.prior, result.test_views)


def _cross_validated(program: Program, cache: FeatureCache) -> list[Measured]:
    """Each run's figures on training rows that its heads did not see: trained on four fifths, measured on the last, five times.

    The folds are the same for every run, so a score does not depend on the runs that are trained beside it. A generator is the
    one learnt on all head rows: what is held out here is the classifier's.
    """
    settings = program.variants[0]
    train = load(cache, views=False, ram_limit=settings.ram_limit)
    counts_C = train.counts_C
    fold_N = stratified_folds(train.labels_N, len(counts_C), FOLDS)
    seen_N = fold_N >= 0
    logits = [torch.zeros(len(seeds_of(run.settings)), len(fold_N), len(counts_C)) for run in program.runs]
    for fold in range(FOLDS):
        held_N = (fold_N == fold).nonzero()[:, 0]
        if not len(held_N):
            continue
        classifiers = train_program(program, cache, (fold_N != fold).nonzero()[:, 0])
        with torch.no_grad():
            for logits_RNC, classifier in zip(logits, classifiers, strict=True):
                logits_RNC[:, held_N] = classifier.logits(train.gather(0, held_N))
                shift_C = shift_to(settings.evaluate.prior, cache, classifier.prior_power)
                if shift_C is not None:
                    logits_RNC[:, held_N] += shift_C
    return [
        measured_logits(
            logits_RNC[:, seen_N], train.labels_N[seen_N], "train", counts_C.tolist(), run.settings.longtail
        )
        for logits_RNC, run in zip(logits, program.runs, strict=True)
    ]
