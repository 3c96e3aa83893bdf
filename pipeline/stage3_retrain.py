"""Stage 3: cache + generator -> classifier, and its figures (paper, section 3.4)."""

import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.artefacts.figures import Digest, Percent, Seconds
from pipeline.classifiers import settled, train_classifier
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored, Selection
from pipeline.errors import DataError, LineageError, TrainingError
from pipeline.evaluate import NotFinite, class_shares, figures
from pipeline.metrics import Metrics
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage1 import LongTail
from pipeline.settings.stage3 import uses_stg
from pipeline.settings.used import HEADS
from pipeline.stg import trained as stg_file

TRANSFER_RULES = {"head_classes", "head_above", "head_share_limit", "head_share", "similarity"}
"""The settings of `stg` that say what a tail sample borrows, with or without a generator."""
MADE_BY = {"seed", "coordinates", "longtail", "stg", "retrain", "choice", "evaluate"}
"""The settings that a classifier and its figures come from, beside the cache."""
NAME = "classifier.safetensors"
NUMBERS = {"retrain.learning_rate", "retrain.tau", "retrain.weight_decay", "retrain.classifier_factor", "retrain.l2"}
"""Settings of a head that have no upper bound, so that a classifier can overflow."""
FIGURES = ("accuracy", "many", "medium", "few", "balanced_accuracy", "ece")


class RetrainResult(BaseModel):
    """What metrics.json of a stage-3 run holds: the mean over seeds, its spread, and each seed's figures, in percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    dataset: str
    cache: str
    stg: str | None
    digest: Digest
    split: str
    selection: Selection
    chosen: bool = False
    """Whether `auto` made it: without the test split, as `selection` says."""
    seeds: list[int]
    accuracy: Percent
    many: Percent | None
    medium: Percent | None
    few: Percent | None
    balanced_accuracy: Percent
    ece: Percent
    per_class: list[Percent | None]
    classes: list[str]
    mean: dict[str, Percent | None]
    std: dict[str, Percent | None]
    each_seed: list[Metrics]
    settings: dict[str, Any] = {}
    """Every setting that made it, by section."""
    prior: str = ""
    """The class prior that the figures are for, as `evaluate.prior` names it; empty for the classifier as it is."""
    prior_power: float | None = None
    """How much of the training prior is in the logits, as in `Classifier.prior_power`. Earlier runs do not say it."""
    seconds: Seconds

    @field_validator("mean", "std")
    @classmethod
    def _every_figure(cls, by_name: dict[str, float | None]) -> dict[str, float | None]:
        if by_name.keys() != set(FIGURES):
            raise ValueError(f"wanted {', '.join(FIGURES)}")
        return by_name


def retrain(settings: Settings, cache: FeatureCache, root: Path, stg: Path | None = None) -> tuple[Path, RetrainResult]:
    """Retrain the classifier on a cache, or take the run as it is where an equal key says it is done.

    With `retrain.augmentation = "stg"` the generator is that of `stg`, a stage-2 run folder. Raises LineageError where `stg` was
    learnt from another cache, DataError where the cache lacks a split or the stage-1 classifier that the head starts from,
    TrainingError for a loss or for probabilities that are not finite. Where another process trains the same classifier, this
    one waits and takes it.
    """
    trained, stg_digest = None, None
    if uses_stg(settings.retrain):
        if stg is None:
            raise ValueError("retrain: retrain.augmentation=stg wants the run folder of a generator")
        trained, stg_digest = stg_file.load(stg, cache, settings.coordinates)
    folder = folders.run_folder(root, settings.name, stage3_method(settings.retrain), _key(settings, cache, stg_digest))
    with folders.work_to_do(folder, "classifier") as to_do:
        if to_do:
            return folder, _retrain(settings, cache, folder, trained, stg_digest)
    result = folders.read_result(folder, RetrainResult)
    path = folder / NAME
    folders.prove(path, checkpoint.digest(checkpoint.load(path)[0]), result.digest)
    return folder, result


def _key(settings: Settings, cache: FeatureCache, stg_digest: str | None) -> str:
    """sha256, hex, over what determines the classifier and its figures."""
    transfers = settings.retrain.is_trained and settings.retrain.augmentation in ("stg", "closed-form")
    shares_C = _shares(settings.evaluate.prior, cache)
    prior = {} if shares_C is None else {"prior": shares_C.tolist()}
    return folders.key_of(
        **prior,
        retrain=settled(settings, cache).keyed(),
        choice=settings.choice,
        coordinates=settings.coordinates,
        seed=settings.seed,
        groups=[settings.longtail.many_above, settings.longtail.few_below],
        stg=stg_digest,
        rules=settings.stg.model_dump(include=TRANSFER_RULES) if transfers else None,
        cache=cache.key,
    )


def _retrain(
    settings: Settings,
    cache: FeatureCache,
    folder: Path,
    trained: stg_file.TrainedSTG | None,
    stg_digest: str | None,
) -> RetrainResult:
    started = time.monotonic()
    folders.start(folder, settings)
    method, seeds = stage3_method(settings.retrain), seeds_of(settings)
    classifier = train_classifier(settings, cache, seeds, trained)
    shares_C = _shares(settings.evaluate.prior, cache)
    if shares_C is not None and classifier.prior_power is None:
        note(f"{method}: its scores are no log probabilities; its figures are not moved to evaluate.prior")
        shares_C = None
    each_seed = _figures(settings, cache, classifier, shares_C)
    tensors = classifier.tensors()
    metadata = {"stage": "classifier", "method": method, "cache": cache.key, "stg": stg_digest or ""}
    checkpoint.save(folder / NAME, tensors, metadata)
    unchosen = Selection(on="last epoch" if settings.retrain.is_trained else "nothing to choose")
    result = summarise(
        each_seed,
        seeds,
        method=method,
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stg=stg_digest,
        digest=checkpoint.digest(tensors),
        split="test",
        selection=classifier.selection or unchosen,
        chosen=settings.retrain.head == "auto",
        classes=list(cache.classes),
        seconds=round(time.monotonic() - started, 3),
        prior="" if shares_C is None else settings.evaluate.prior,
        prior_power=classifier.prior_power,
        settings=settings.model_dump(mode="json", include=MADE_BY),
    )
    folders.write_json(folder / "metrics.json", result)
    return result


def _figures(
    settings: Settings, cache: FeatureCache, classifier: Classifier | Scored, shares_C: Tensor | None
) -> list[Metrics]:
    """The test split's figures. Raises TrainingError, which names the settings to look at, where they are not finite."""
    try:
        return figures(cache, "test", classifier, settings.longtail, settings.ram_limit, shares_C)
    except NotFinite as error:
        head = settings.retrain.head
        numbers = sorted(HEADS[head] & NUMBERS)
        remedy = f"of the settings that retrain.head={head} uses, set back {' or '.join(numbers)}"
        raise TrainingError(
            f"retrain: {error}; {remedy if numbers else 'look at the features with cache verify'}"
        ) from None


def _shares(prior: str, cache: FeatureCache) -> Tensor | None:
    return class_shares(prior, cache.classes, torch.from_numpy(cache.counts("train"))) if prior else None


def evaluate_run(folder: Path, cache: FeatureCache, split: str, prior: str | None = None) -> RetrainResult:
    """The figures of a finished run's classifier on a split of the cache that it was made from.

    `prior` as in `evaluate.prior`; None: that of the run, empty: none.

    Raises LineageError for another cache, DataError where the cache lacks the split, the classifier is not the one that the
    run recorded, or it is not linear: those are not taken up from their file again.
    """
    result = folders.read_result(folder, RetrainResult)
    if result.cache != cache.key:
        raise LineageError(
            f"{folder}: made from cache {result.cache[:12]}, wanted {cache.key[:12]}; name it with --cache"
        )
    path = folder / NAME
    tensors, _ = checkpoint.load(path)
    folders.prove(path, checkpoint.digest(tensors), result.digest)
    if set(tensors) != {"weight", "bias"}:
        raise DataError(
            f"{path}: {result.method} is no linear classifier; run retrain with --head {result.method} again"
        )
    groups = LongTail.model_validate(result.settings.get("longtail", {}))
    prior = result.prior if prior is None else prior
    if prior and result.prior_power is None:
        raise DataError(
            f"{folder}: the scores of {result.method} are not known to be log probabilities, so no prior can be put to them; run "
            "retrain again where it is of an earlier version, or leave out --prior"
        )
    classifier = Classifier(tensors["weight"], tensors["bias"], prior_power=result.prior_power)
    each_seed = figures(cache, split, classifier, groups, shares_C=_shares(prior, cache))
    same = result.model_dump(
        include={*RetrainResult.model_fields} - {*Metrics.model_fields, "mean", "std", "each_seed", "seeds"}
    )
    return summarise(each_seed, result.seeds, **{**same, "split": split, "prior": prior})


def seeds_of(settings: Settings) -> list[int]:
    """`seed`, `seed` + 1, …; a head that draws nothing has one."""
    count = settings.retrain.seeds if settings.retrain.is_trained else 1
    return [settings.seed + offset for offset in range(count)]


def summarise(each_seed: list[Metrics], seeds: list[int], **rest: object) -> RetrainResult:
    """Mean over seeds as the figures, with the spread (sample standard deviation, 0 for one seed)."""
    columns = {name: [getattr(metrics, name) for metrics in each_seed] for name in FIGURES}
    per_class = list(zip(*(metrics.per_class for metrics in each_seed), strict=True))
    means = {name: None if values[0] is None else mean(values) for name, values in columns.items()}
    spreads = {
        name: None if values[0] is None else stdev(values) if len(values) > 1 else 0.0
        for name, values in columns.items()
    }
    return RetrainResult.model_validate(
        {
            **rest,
            **means,
            "seeds": seeds,
            "per_class": [None if values[0] is None else mean(values) for values in per_class],
            "mean": means,
            "std": spreads,
            "each_seed": [metrics.model_dump() for metrics in each_seed],
        }
    )
