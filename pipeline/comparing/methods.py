"""Methods on one cache: their figures, and by how much each differs from a baseline, on the same test rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.comparing import statistics
from pipeline.comparing.arms import LeftOut, MethodArm, missing, names_of
from pipeline.comparing.record import LEVEL, SHOWN_FIGURES, AbsentArm, ComparedArm, Contrast, MethodComparison
from pipeline.errors import ConfigError, DataError, LineageError, TrainingError
from pipeline.longtail import groups_with_test_rows
from pipeline.metrics import worst_tenth
from pipeline.progress import note, on_interrupt, silently, track
from pipeline.settings import Settings
from pipeline.settings.method_names import stage1_label
from pipeline.settings.stage3 import uses_stg
from pipeline.stage3_predictions import predictions
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import Run, done_already, planned
from pipeline.stage3_together import failures, programs

Generator = Callable[[Settings], Path]
"""From settings to the run folder of the generator they want, learnt where it is not there."""

ARMS_KEPT = "finished methods are kept, the same command goes on with the others"
"""The message of an interrupted comparison: what its next start does."""


def compare_methods(
    arms: Sequence[MethodArm],
    left_out: Sequence[LeftOut],
    cache: FeatureCache,
    root: Path,
    generator: Generator,
    baseline: str,
    metric: str = "accuracy",
    strict: bool = False,
    title: str = "",
    notes: Sequence[str] = (),
) -> tuple[MethodComparison, list[tuple[Path, RetrainResult]]]:
    """Run every arm on the cache, those of one shape in one program, and compare them; runs that are done are taken as they are.

    `baseline` is a method's name or an arm's. An arm that fails is left out with its reason; `strict` raises instead. The second
    value are the run folders and their results, in the order of the arms.
    """
    if not arms:
        raise DataError(f"compare: no arm can be run on cache {cache.key[:12]}: {left_out[0].reason}")
    for lost in left_out:
        if baseline in (lost.name, lost.method):
            raise ConfigError(f"--baseline {baseline}: left out: {lost.reason}")
    _position(arms, baseline)  # a wrong name is refused before the training
    finished, absent = _run_all(arms, cache, root, generator, strict)
    for lost in [*left_out, *absent]:
        note(f"{lost.name}: left out: {lost.reason}")
    if not finished:
        raise DataError(f"compare: no arm can be run on cache {cache.key[:12]}: {(absent or [*left_out])[0].reason}")
    chosen = [each.arm for each in finished]
    base = _position(chosen, baseline)
    labels_N = cache.labels("test").astype(np.int64)
    correct = [(predictions(each.run, each.result, cache) == torch.from_numpy(labels_N)).numpy() for each in finished]
    scores = [_score(each.result, metric) for each in finished]
    best = max(range(len(chosen)), key=lambda position: scores[position])
    draws_AB = statistics.bootstrap(correct, labels_N, metric)
    exact = metric == "accuracy" or len(set(np.bincount(labels_N)[np.unique(labels_N)].tolist())) == 1
    to_base, to_best = (_contrasts(correct, scores, draws_AB, labels_N, metric, other, exact) for other in (base, best))
    compared = [
        _compared(each, scores[position], to_base[position], to_best[position])
        for position, each in enumerate(finished)
    ]
    groups, limits = groups_with_test_rows(cache.counts("train"), cache.counts("test"), chosen[0].settings.longtail)
    comparison = MethodComparison(
        title=title or cache.manifest.provenance.name,
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        backbone=cache.manifest.identity.weights,
        stage1=stage1_label(cache.manifest),
        metric=metric,
        baseline=chosen[base].name,
        test_rows=len(labels_N),
        test_views=finished[0].result.test_views,
        groups=groups,
        limits=limits,
        replicates=statistics.REPLICATES,
        exact=exact,
        arms=compared,
        left_out=[
            AbsentArm(name=lost.name, reason=lost.reason, published=dict(lost.published), best_epoch=lost.best_epoch)
            for lost in [*left_out, *absent]
        ],
        notes=list(notes),
    )
    return comparison, [(each.run.folder, each.result) for each in finished]


@dataclass(frozen=True)
class _Finished:
    """An arm, and its run with the figures."""

    arm: MethodArm
    run: Run
    result: RetrainResult


def _run_all(
    arms: Sequence[MethodArm], cache: FeatureCache, root: Path, generator: Generator, strict: bool
) -> tuple[list[_Finished], list[LeftOut]]:
    """The arms that have figures, in their order, and those that failed. Arms of equal settings share one run folder, and its
    run is trained once."""
    plans = [_plan(arm, cache, root, generator, strict) for arm in arms]
    runs = {plan.folder: plan for plan in plans if isinstance(plan, Run)}
    results = {folder: done_already(run) for folder, run in runs.items()}
    waiting = [run for folder, run in runs.items() if results[folder] is None]
    failed = _train(waiting, cache, strict)
    results |= {run.folder: done_already(run) for run in waiting if run.folder not in failed}
    finished, absent = [], []
    for arm, plan in zip(arms, plans, strict=True):
        result = results[plan.folder] if isinstance(plan, Run) else None
        if isinstance(plan, Run) and result is not None:
            finished.append(_Finished(arm, plan, result))
        else:
            reason = failed[plan.folder] if isinstance(plan, Run) else plan
            absent.append(LeftOut(arm.name, reason, arm.published, arm.best_epoch))
    return finished, absent


def _plan(arm: MethodArm, cache: FeatureCache, root: Path, generator: Generator, strict: bool) -> Run | str:
    """The arm's run, or why it cannot be run."""
    try:
        if reason := missing(arm.settings, cache):
            raise DataError(reason)
        stg = generator(arm.settings) if uses_stg(arm.settings.retrain) else None
        return planned(arm.settings, cache, root, stg)
    except (DataError, LineageError, ConfigError, TrainingError) as error:
        if strict:
            raise
        return str(error)


def _train(waiting: Sequence[Run], cache: FeatureCache, strict: bool) -> dict[Path, str]:
    """Train the runs, those of one shape in one program. Folder -> why it failed."""
    failed: dict[Path, str] = {}
    grouped = programs(waiting, cache)
    several = len(grouped) > 1
    with on_interrupt(ARMS_KEPT), track(len(waiting), "compare", "arms", shown=several) as bar:
        for program in grouped:
            with silently(several):
                failed |= failures(program, cache, strict)
            bar.advance(len(program.runs))
    return failed


def _position(arms: Sequence[MethodArm], baseline: str) -> int:
    for position, arm in enumerate(arms):
        if arm.is_called(baseline):
            return position
    raise ConfigError(f"--baseline {baseline}: not among the arms; wanted one of {names_of(arms)}")


def _score(result: RetrainResult, metric: str) -> float:
    return result.accuracy if metric == "accuracy" else result.balanced_accuracy


def _contrasts(
    correct: Sequence[NDArray[Any]],
    scores: Sequence[float],
    draws_AB: NDArray[np.float64],
    labels_N: NDArray[np.int64],
    metric: str,
    other: int,
    exact: bool,
) -> list[Contrast | None]:
    """Each arm against the arm at `other`; None for that arm itself."""
    others = [position for position in range(len(scores)) if position != other]
    differences = [statistics.paired_difference(correct[position], correct[other]) for position in others]
    if exact:
        p_values = [statistics.exact_p(difference_N) for difference_N in differences]
    elif others:
        weight_N = statistics.weights_by_row(labels_N, metric)
        p_values = statistics.flipped_p(np.stack([difference_N * weight_N for difference_N in differences]))
    else:
        p_values = []
    contrasts: list[Contrast | None] = [None] * len(scores)
    for position, p, corrected in zip(others, p_values, statistics.holm(p_values), strict=True):
        low, high = np.quantile(draws_AB[position] - draws_AB[other], [LEVEL / 2, 1 - LEVEL / 2]).tolist()
        contrasts[position] = Contrast(
            difference=scores[position] - scores[other], low=low, high=high, p=p, p_corrected=corrected
        )
    return contrasts


def _compared(finished: _Finished, score: float, to_baseline: Contrast | None, to_best: Contrast | None) -> ComparedArm:
    arm, result = finished.arm, finished.result
    columns: dict[str, list[float | None]] = {
        name: [getattr(metrics, name) for metrics in result.each_seed]
        for name in SHOWN_FIGURES
        if name != "worst_tenth"
    }
    columns["worst_tenth"] = [worst_tenth(metrics.per_class) for metrics in result.each_seed]
    known = {name: [value for value in columns[name] if value is not None] for name in SHOWN_FIGURES}
    return ComparedArm(
        name=arm.name,
        method=arm.method,
        run=str(finished.run.folder),
        seeds=result.seeds,
        mean={name: mean(values) if values else None for name, values in known.items()},
        std={name: (stdev(values) if len(values) > 1 else 0.0) if values else None for name, values in known.items()},
        seconds=result.seconds,
        chosen=result.chosen,
        score=score,
        to_baseline=to_baseline,
        to_best=to_best,
        published=dict(arm.published),
        best_epoch=arm.best_epoch,
    )
