"""Cross-validation of stages 2 and 3: the folds of a cache, and what an arm did on all of them together.

It is for features of a backbone that never saw the rows. Folds of rows that it was trained on would say nothing of new images.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from cache import FeatureCache
from cache.folded import Fold, PooledRows
from pipeline.classifiers.scored import Selection
from pipeline.classifiers.selection import stratified_folds
from pipeline.errors import ConfigError, DataError
from pipeline.features import is_unseen
from pipeline.longtail import group_limits, shot_groups
from pipeline.metrics import pooled
from pipeline.settings import Settings
from pipeline.settings.stage1 import LongTail
from pipeline.stage3_record import RetrainResult, summarise
from pipeline.stg.distance import Distance

USUAL_FOLDS = 5
FOLD_SEED = 0
"""One for all runs, so that runs of different seeds are measured on the same folds."""
SAY_NOTHING = (
    "so folds of them say nothing of new images; leave --folds out, or take a backbone as it is, such as --backbone "
    "efficientnet-lite0"
)


def check_folds(settings: Settings, folds: int) -> None:
    """Raises ConfigError where test rows are to be averaged over views, of which folds have the clean one alone."""
    if settings.retrain.test_views not in (1, "all"):
        raise ConfigError(
            f"--folds {folds}: of the rows of folds the clean view alone is tested, found retrain.test_views="
            f"{settings.retrain.test_views}; leave one of the two out"
        )


def check_folds_of_images(settings: Settings, folds: int) -> None:
    """As `check_folds`; raises ConfigError too, before hours of training, where stage 1 trains the backbone on the images."""
    check_folds(settings, folds)
    if settings.stage1.epochs:
        raise ConfigError(
            f"--folds {folds}: stage 1 trains the backbone on the training images (stage1.epochs={settings.stage1.epochs}), "
            f"{SAY_NOTHING}"
        )


def check_folds_of_cache(cache: FeatureCache, settings: Settings, folds: int) -> None:
    """As `check_folds`; raises ConfigError too for a backbone that was trained on the rows."""
    check_folds(settings, folds)
    if not is_unseen(cache):
        raise ConfigError(
            f"--folds {folds}: cache {cache.key[:12]}: its backbone was trained on the training rows, {SAY_NOTHING}"
        )


def cache_folds(cache: FeatureCache, settings: Settings, folds: int) -> list[Fold]:
    """The cache's training and test rows in so many folds, each class spread over them; a class's only row is in none's test.

    Raises what `check_folds_of_cache` raises, and DataError for too few rows.
    """
    check_folds_of_cache(cache, settings, folds)
    rows = PooledRows(cache)
    fold_N = stratified_folds(torch.from_numpy(rows.labels_N), len(cache.classes), folds, FOLD_SEED).numpy()
    if len(np.unique(fold_N[fold_N >= 0])) < folds:
        raise DataError(
            f"--folds {folds}: cache {cache.key[:12]}: wanted a row in each fold, found {int((fold_N >= 0).sum())} rows in "
            "classes of more than one; take fewer folds"
        )
    return [rows.fold(fold_N, number) for number in range(folds)]


def wants_folds(train_C: Sequence[int], test_C: Sequence[int]) -> bool:
    """Whether a test split that was held out is too small to tell by: most classes that could have two rows there have fewer."""
    small = [test < 2 for train, test in zip(train_C, test_C, strict=True) if train + test > 1]
    return sum(small) > len(small) / 2


def over_folds(
    results: Sequence[RetrainResult], parts: Sequence[FeatureCache], limits: LongTail, key: str
) -> RetrainResult:
    """What one arm has on all test rows of the folds; `key` is that of the cache whose folds they are."""
    tested_FC = [part.counts("test").tolist() for part in parts]
    counts = whole_counts(parts)
    groups = shot_groups(counts, *group_limits(counts, limits.many_above, limits.few_below))
    first = results[0]
    each_seed = [
        pooled([result.each_seed[number] for result in results], tested_FC, groups)
        for number in range(len(first.seeds))
    ]
    scores = [result.selection.score for result in results if result.selection.score is not None]
    selection = Selection(
        on=f"{first.selection.on}, in each fold anew",
        metric=first.selection.metric,
        score=sum(scores) / len(scores) if len(scores) == len(results) else None,
    )
    return summarise(
        each_seed,
        first.seeds,
        method=first.method,
        dataset=first.dataset,
        cache=key,
        stg=None if first.stg is None else _joined([result.stg or "" for result in results]),
        digest=_joined([result.digest for result in results]),
        split=f"{len(results)} folds",
        selection=selection,
        chosen=first.chosen,
        classes=first.classes,
        settings=first.settings,
        prior=first.prior,
        prior_power=first.prior_power,
        seconds=sum(result.seconds for result in results),
    )


def whole_counts(parts: Sequence[FeatureCache]) -> list[int]:
    """The rows of each class, of training and test together."""
    return (parts[0].counts("train") + parts[0].counts("test")).tolist()


def mean_distance(distances: Sequence[Distance]) -> Distance:
    """The means over the folds' generators, and the rows of all."""
    values = [distance.model_dump(exclude_none=True) for distance in distances]
    names = set.intersection(*(set(value) for value in values)) - {"rows"}
    means = {name: sum(value[name] for value in values) / len(values) for name in names}
    return Distance(rows=sum(distance.rows for distance in distances), **means)


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()
