"""Methods on one cache: their figures, and by how much each differs from a baseline, on the same test rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.comparing import statistics
from pipeline.comparing.arms import LeftOut, MethodArm, missing
from pipeline.comparing.record import LEVEL, SHOWN_FIGURES, AbsentArm, ComparedArm, Contrast, MethodComparison
from pipeline.errors import ConfigError, DataError, LineageError
from pipeline.longtail import group_limits, shot_groups
from pipeline.metrics import worst_tenth
from pipeline.progress import note, silently, track
from pipeline.settings import Settings
from pipeline.settings.method_names import stage1_label
from pipeline.settings.stage3 import uses_stg
from pipeline.stage3_predictions import predictions
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import Run, done_already, planned
from pipeline.stage3_together import programs, run_program

Generator = Callable[[Settings], Path]
"""From settings to the run folder of the generator they want, learnt where it is not there."""


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
    _position(arms, baseline)  # a wrong name is refused before the training
    runs, results, absent = _run_all(arms, cache, root, generator, strict)
    chosen = [arm for arm in arms if arm.name in results]
    for lost in [*left_out, *absent]:
        note(f"{lost.name}: left out: {lost.reason}")
    if not chosen:
        raise DataError(f"compare: no arm can be run on cache {cache.key[:12]}: {(absent or [*left_out])[0].reason}")
    base = _position(chosen, baseline)
    labels_N = cache.labels("test").astype(np.int64)
    correct = [
        (predictions(runs[arm.name], results[arm.name], cache) == torch.from_numpy(labels_N)).numpy() for arm in chosen
    ]
    scores = [_score(results[arm.name], metric) for arm in chosen]
    best = max(range(len(chosen)), key=lambda position: scores[position])
    draws_AB = statistics.bootstrap(correct, labels_N, metric)
    exact = metric == "accuracy" or len(set(np.bincount(labels_N)[np.unique(labels_N)].tolist())) == 1
    to_base, to_best = (_contrasts(correct, scores, draws_AB, labels_N, metric, other, exact) for other in (base, best))
    compared = [
        _compared(arm, runs[arm.name], results[arm.name], scores[position], to_base[position], to_best[position])
        for position, arm in enumerate(chosen)
    ]
    comparison = MethodComparison(
        title=title or cache.manifest.provenance.name,
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        backbone=cache.manifest.identity.weights,
        stage1=stage1_label(cache.manifest),
        metric=metric,
        baseline=chosen[base].name,
        test_rows=len(labels_N),
        **_groups(chosen[0].settings, cache),
        replicates=statistics.REPLICATES,
        exact=exact,
        arms=compared,
        left_out=[
            AbsentArm(name=lost.name, reason=lost.reason, published=dict(lost.published), best_epoch=lost.best_epoch)
            for lost in [*left_out, *absent]
        ],
        notes=list(notes),
    )
    return comparison, [(runs[arm.name].folder, results[arm.name]) for arm in chosen]


def _run_all(
    arms: Sequence[MethodArm], cache: FeatureCache, root: Path, generator: Generator, strict: bool
) -> tuple[dict[str, Run], dict[str, RetrainResult], list[LeftOut]]:
    """Runs and results by the arm's name, and the arms that failed."""
    runs: dict[str, Run] = {}
    lost: dict[str, str] = {}
    for arm in arms:
        try:
            if reason := missing(arm.settings, cache):
                raise DataError(reason)
            stg = generator(arm.settings) if uses_stg(arm.settings.retrain) else None
            runs[arm.name] = planned(arm.settings, cache, root, stg)
        except (DataError, LineageError, ConfigError) as error:
            _lose(lost, [arm.name], error, strict)
    results = {name: result for name, run in runs.items() if (result := done_already(run))}
    waiting = {run.folder: name for name, run in runs.items() if name not in results}
    grouped = programs([run for name, run in runs.items() if name not in results], cache)
    several = len(grouped) > 1
    with track(len(waiting), "compare", "arms", shown=several) as bar:
        for program in grouped:
            names = [waiting[run.folder] for run in program.runs]
            try:
                with silently(several):
                    run_program(program, cache)
            except (DataError, ConfigError) as error:
                _lose(lost, names, error, strict)
                continue
            finally:
                bar.advance(len(names))
            results |= {name: result for name in names if (result := done_already(runs[name]))}
    absent = [LeftOut(arm.name, lost[arm.name], arm.published, arm.best_epoch) for arm in arms if arm.name in lost]
    return runs, results, absent


def _lose(lost: dict[str, str], names: Sequence[str], error: Exception, strict: bool) -> None:
    if strict:
        raise error
    lost.update(dict.fromkeys(names, str(error)))


def _position(arms: Sequence[MethodArm], baseline: str) -> int:
    for position, arm in enumerate(arms):
        if baseline in (arm.method, arm.name):
            return position
    raise ConfigError(
        f"--baseline {baseline}: not among the arms; wanted one of {', '.join(dict.fromkeys(arm.method for arm in arms))}"
    )


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


def _compared(
    arm: MethodArm,
    run: Run,
    result: RetrainResult,
    score: float,
    to_baseline: Contrast | None,
    to_best: Contrast | None,
) -> ComparedArm:
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
        run=str(run.folder),
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


def _groups(settings: Settings, cache: FeatureCache) -> dict[str, Any]:
    """How many classes with test rows are many-, medium- and few-shot, and between which counts of training rows."""
    counts = cache.counts("train").tolist()
    limits = group_limits(counts, settings.longtail.many_above, settings.longtail.few_below)
    tested = cache.counts("test") > 0
    groups = {name: sum(bool(tested[c]) for c in members) for name, members in shot_groups(counts, *limits).items()}
    return {"groups": groups, "limits": limits}
