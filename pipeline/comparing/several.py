"""Methods over several caches: mean rank, mean regret, wins and losses, and which differences of rank are noise."""

from collections.abc import Sequence
from statistics import mean, stdev

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.comparing.record import MethodComparison
from pipeline.comparing.statistics import critical_difference, mean_ranks
from pipeline.errors import ConfigError


class Standing(BaseModel):
    """One method over all caches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    method: str
    mean_rank: float
    """1 is best."""
    mean_score: float
    spread: float | None
    """Standard deviation of its scores over the caches of one data set, averaged over data sets; None where none has two."""
    mean_regret: float
    """Points below the best arm of each cache."""
    wins: int
    """Caches on which it is above the baseline."""
    losses: int
    apart: bool
    """Whether its mean rank is further from the best than the critical difference."""


class Overview(BaseModel):
    """The methods that all caches have, by mean rank."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    caches: list[str]
    metric: str
    baseline: str
    critical_difference: float
    """Nemenyi's, at level 0.05."""
    standings: list[Standing]
    not_everywhere: list[str]
    """Methods that some cache lacks."""


def overview(comparisons: Sequence[MethodComparison]) -> Overview:
    """The standings over the caches of these comparisons.

    Raises ConfigError where they have fewer than two arms in common, or average over different numbers of views.
    """
    first = comparisons[0]
    views = sorted({comparison.test_views for comparison in comparisons})
    if len(views) > 1:
        raise ConfigError(
            f"retrain.test_views: wanted one number of views for all caches, found {' and '.join(map(str, views))}: such figures "
            f"are not comparable; set retrain.test_views={views[0]}"
        )
    scores = [{_key(arm.method, arm.name): arm.score for arm in comparison.arms} for comparison in comparisons]
    common = [key for key in scores[0] if all(key in others for others in scores)]
    if len(common) < 2:
        raise ConfigError("--cache: the caches have fewer than two arms in common, so there is nothing to rank")
    scores_KA = np.array([[others[key] for key in common] for others in scores])
    ranks_A = mean_ranks(scores_KA)
    regret_A = (scores_KA.max(axis=1, keepdims=True) - scores_KA).mean(axis=0)
    limit = critical_difference(len(common), len(comparisons))
    base = next((place for place, arm in enumerate(first.arms) if arm.name == first.baseline), 0)
    base_key = _key(first.arms[base].method, first.arms[base].name)
    base_K = np.array([others.get(base_key, np.nan) for others in scores])
    names = {_key(arm.method, arm.name): (arm.name, arm.method) for arm in first.arms}
    order = np.argsort(ranks_A, kind="stable")
    standings = [
        Standing(
            name=names[common[a]][0],
            method=names[common[a]][1],
            mean_rank=float(ranks_A[a]),
            mean_score=float(scores_KA[:, a].mean()),
            spread=_spread(comparisons, scores_KA[:, a].tolist()),
            mean_regret=float(regret_A[a]),
            wins=int((scores_KA[:, a] > base_K).sum()),
            losses=int((scores_KA[:, a] < base_K).sum()),
            apart=bool(ranks_A[a] - ranks_A.min() > limit),
        )
        for a in order
    ]
    everywhere = {names[key][0] for key in common}
    elsewhere = {arm.name for comparison in comparisons for arm in comparison.arms if arm.method != "stage1"}
    return Overview(
        caches=[comparison.cache for comparison in comparisons],
        metric=first.metric,
        baseline=first.baseline,
        critical_difference=limit,
        standings=standings,
        not_everywhere=sorted(elsewhere - everywhere),
    )


def _key(method: str, name: str) -> str:
    """What an arm is called in all caches: the stage-1 classifier's name tells how each backbone was trained."""
    return "stage1" if method == "stage1" else name


def _spread(comparisons: Sequence[MethodComparison], scores: Sequence[float]) -> float | None:
    by_dataset: dict[str, list[float]] = {}
    for comparison, score in zip(comparisons, scores, strict=True):
        by_dataset.setdefault(comparison.dataset, []).append(score)
    spreads = [stdev(values) for values in by_dataset.values() if len(values) > 1]
    return mean(spreads) if spreads else None


def one_backbone_note(comparisons: Sequence[MethodComparison]) -> str | None:
    """What to say where a data set has one backbone only; None where each has several."""
    backbones: dict[str, set[str]] = {}
    for comparison in comparisons:
        backbones.setdefault(comparison.dataset, set()).add(comparison.backbone)
    alone = [dataset for dataset, digests in backbones.items() if len(digests) == 1]
    if not alone:
        return None
    return (
        f"one backbone only for {', '.join(alone)}: the spread over backbones trained with other seeds is larger than that over "
        "the heads' seeds, and none of these intervals holds it; train one more with --seed and give both with --cache"
    )
