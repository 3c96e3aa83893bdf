"""Stage 3: cache + generator -> classifier, and its figures (paper, section 3.4)."""

import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.artefacts.figures import Digest, Percent, Seconds
from pipeline.classifiers import train_classifier
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Selection
from pipeline.errors import DataError, LineageError
from pipeline.evaluate import figures
from pipeline.metrics import Metrics
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings.method_names import stage3_method
from pipeline.settings.stage3 import uses_stg
from pipeline.stg import trained as stg_file

TRANSFER_RULES = {"head_classes", "head_above", "head_share_limit", "head_share", "similarity"}
"""The settings of `stg` that say what a tail sample borrows, with or without a generator."""
MADE_BY = {"seed", "coordinates", "longtail", "stg", "retrain", "choice"}
"""The settings that a classifier and its figures come from, beside the cache."""
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
    seconds: Seconds

    @field_validator("mean", "std")
    @classmethod
    def _every_figure(cls, found: dict[str, float | None]) -> dict[str, float | None]:
        if found.keys() != set(FIGURES):
            raise ValueError(f"wanted {', '.join(FIGURES)}")
        return found


def retrain(settings: Settings, cache: FeatureCache, root: Path, stg: Path | None = None) -> tuple[Path, RetrainResult]:
    """Retrain the classifier on a cache, or take the run as it is where an equal key says it is done.

    With `retrain.augmentation = "stg"` the generator is that of `stg`, a stage-2 run folder. Raises LineageError where `stg` was
    learnt from another cache, DataError where the cache lacks a split or the stage-1 classifier that the head starts from.
    """
    trained, stg_digest = None, None
    if uses_stg(settings.retrain):
        if stg is None:
            raise ValueError("retrain: retrain.augmentation=stg wants the run folder of a generator")
        trained, stg_digest = stg_file.load(stg, cache, settings.coordinates)
    method = stage3_method(settings.retrain)
    transfers = settings.retrain.is_trained and settings.retrain.augmentation in ("stg", "closed-form")
    rules = settings.stg.model_dump(include=TRANSFER_RULES) if transfers else None
    key = folders.key_of(
        retrain=settings.retrain.keyed(),
        choice=settings.choice,
        coordinates=settings.coordinates,
        seed=settings.seed,
        groups=[settings.longtail.many_above, settings.longtail.few_below],
        stg=stg_digest,
        rules=rules,
        cache=cache.key,
    )
    folder = folders.run_folder(root, settings.name, method, key)
    if folders.is_done(folder):
        result = folders.read_result(folder, RetrainResult)
        path = folder / "classifier.safetensors"
        folders.prove(path, checkpoint.digest(checkpoint.load(path)[0]), result.digest)
        note(f"done already: {folder}", level=2)
        return folder, result
    started = time.monotonic()
    folders.start(folder, settings)
    seeds = seeds_of(settings)
    classifier = train_classifier(settings, cache, seeds, trained)
    found = figures(cache, "test", classifier, settings)
    tensors = classifier.tensors()
    metadata = {"stage": "classifier", "method": method, "cache": cache.key, "stg": stg_digest or ""}
    checkpoint.save(folder / "classifier.safetensors", tensors, metadata)
    lineage = {"dataset": cache.manifest.provenance.name, "cache": cache.key, "stg": stg_digest}
    result = summarise(
        found,
        seeds,
        method=method,
        **lineage,
        digest=checkpoint.digest(tensors),
        split="test",
        selection=classifier.selection
        or Selection(on="last epoch" if settings.retrain.is_trained else "nothing to choose"),
        chosen=settings.retrain.head == "auto",
        classes=list(cache.classes),
        seconds=round(time.monotonic() - started, 3),
        settings=settings.model_dump(mode="json", include=MADE_BY),
    )
    folders.write_json(folder / "metrics.json", result)
    return folder, result


def evaluate_run(folder: Path, cache: FeatureCache, split: str) -> RetrainResult:
    """The figures of a finished run's classifier on a split of the cache that it was made from.

    Raises LineageError for another cache, DataError where the cache lacks the split, the classifier is not the one that the
    run recorded, or it is not linear: those are not taken up from their file again.
    """
    result = folders.read_result(folder, RetrainResult)
    if result.cache != cache.key:
        raise LineageError(
            f"{folder}: made from cache {result.cache[:12]}, wanted {cache.key[:12]}; name it with --cache"
        )
    path = folder / "classifier.safetensors"
    tensors, _ = checkpoint.load(path)
    folders.prove(path, checkpoint.digest(tensors), result.digest)
    if set(tensors) != {"weight", "bias"}:
        head = result.method.partition("+")[0]
        raise DataError(f"{path}: {result.method} is no linear classifier; run retrain with --head {head} again")
    settings = Settings.model_validate({"longtail": result.settings.get("longtail", {})})
    found = figures(cache, split, Classifier(tensors["weight"], tensors["bias"]), settings)
    same = result.model_dump(
        include={*RetrainResult.model_fields} - {*Metrics.model_fields, "mean", "std", "each_seed", "seeds"}
    )
    return summarise(found, result.seeds, **{**same, "split": split})


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
