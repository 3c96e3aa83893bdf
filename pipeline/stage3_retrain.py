"""Stage 3: cache + generator -> classifier, and its figures (paper, section 3.4)."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.classifiers import fixed_rule, follows_the_rule, settled, train_classifier
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored, Selection
from pipeline.errors import DataError, LineageError, TrainingError
from pipeline.evaluate import Measured, NotFinite, expected_shares, measure
from pipeline.features import averaged_views, coordinates_of
from pipeline.machine.device import with_device
from pipeline.progress import note, on_interrupt
from pipeline.settings import Settings
from pipeline.settings.method_names import stage3_method
from pipeline.settings.register import BORROWING, REVISIONS
from pipeline.settings.stage3 import uses_stg
from pipeline.settings.used import AUGMENTATIONS, HEADS
from pipeline.stage3_record import CLASSIFIER, INCOMPLETE, RetrainResult, saved_classifier, summarise
from pipeline.stg import trained as stg_file

MADE_BY = {"seed", "coordinates", "longtail", "stg", "retrain", "choice", "evaluate"}
"""The settings that a classifier and its figures come from, beside the cache."""
SPLIT_FIGURES = "figures-{split}.json"
"""In a run folder, beside metrics.json of the test split: the figures on another split."""
PREDICTIONS = "predictions.safetensors"
"""In a run folder: the class predicted for each test row by each seed, int32 (R, N), so that runs can be compared by row."""
CLASSIFIER_NOT_KEPT = (
    "of this classifier nothing is kept, the same command trains it from the start; what was finished before it stays"
)
"""The message of an interrupted training: what its next start does."""
NUMBERS = {"retrain.learning_rate", "retrain.tau", "retrain.weight_decay", "retrain.classifier_factor", "retrain.l2"}
"""Settings of a head that have no upper bound, so that a classifier can overflow."""


def made_by(settings: Settings) -> dict[str, Any]:
    """The values of MADE_BY, and the device where it is no CPU."""
    return settings.model_dump(mode="json", include=MADE_BY) | settings.device_key


@dataclass(frozen=True)
class Run:
    """One run of stage 3: its settings, its folder, and the generator that it uses."""

    settings: Settings
    folder: Path
    method: str
    generator: stg_file.TrainedSTG | None
    generator_digest: str | None


def planned(settings: Settings, cache: FeatureCache, root: Path, stg: Path | None = None) -> Run:
    """The run that these settings mean; `stg` is the stage-2 run folder, where they want a generator.

    Raises LineageError where `stg` was learnt from another cache, ConfigError for a device that cannot be used.
    """
    settings = with_device(settings)
    trained, stg_digest = None, None
    if uses_stg(settings.retrain):
        if stg is None:
            raise ValueError("retrain: retrain.augmentation=stg wants the run folder of a generator")
        trained, stg_digest = stg_file.load(stg, cache, coordinates_of(cache, settings))
    method = stage3_method(settings.retrain)
    shares_C = expected_shares(settings.evaluate.prior, cache)
    prior = {} if shares_C is None else {"prior": shares_C.tolist()}
    rule = {"rule": fixed_rule.KEYED} if follows_the_rule(settings, cache) else {}
    head = settings.retrain.head
    revision = {"revision": REVISIONS[head]} if head in REVISIONS else {}
    if settings.retrain.is_trained and (shift := f"+{settings.retrain.augmentation}") in REVISIONS:
        revision["augmentation_revision"] = REVISIONS[shift]
    retrain = settled(settings, cache)
    if retrain.test_views != 1:
        retrain = retrain.model_copy(update={"test_views": averaged_views(cache, "test", retrain.test_views)})
    key = folders.key_of(
        **settings.device_key,
        **prior,
        **rule,
        **revision,
        retrain=retrain.keyed(),
        choice=settings.choice,
        coordinates=coordinates_of(cache, settings),
        seed=settings.seed,
        groups=[settings.longtail.many_above, settings.longtail.few_below],
        stg=stg_digest,
        rules=_rules(settings),
        cache=cache.key,
    )
    return Run(settings, folders.run_folder(root, settings.name, method, key), method, trained, stg_digest)


def _rules(settings: Settings) -> dict[str, Any] | None:
    """What a run's key is made of beside `retrain`: which class lends to which. Augmentations that came later leave out what is
    at its default, so older keys hold."""
    used = AUGMENTATIONS[settings.retrain.augmentation] if settings.retrain.is_trained else frozenset()
    rules = settings.stg.model_dump(include={name for name in BORROWING if f"stg.{name}" in used})
    if settings.retrain.augmentation not in ("stg", "closed-form"):
        default = type(settings.stg)().model_dump()
        rules = {name: value for name, value in rules.items() if value != default[name]}
    return rules or None


def done_already(run: Run) -> RetrainResult | None:
    """The figures of a run that is done; None where it is not. Raises DataError where its files do not hold together."""
    if not folders.is_done(run.folder):
        return None
    note(f"done already: {run.folder}", level=2)
    return _result(run.folder)


def _result(folder: Path) -> RetrainResult:
    """The figures of a finished run, whose classifier is the one that it recorded."""
    result = folders.read_result(folder, RetrainResult)
    folders.prove(folder / CLASSIFIER, checkpoint.digest(checkpoint.load(folder / CLASSIFIER)[0]), result.digest)
    return result


def retrain(settings: Settings, cache: FeatureCache, root: Path, stg: Path | None = None) -> tuple[Path, RetrainResult]:
    """Retrain the classifier on a cache, or take the run as it is where an equal key says it is done.

    With `retrain.augmentation = "stg"` the generator is that of `stg`, a stage-2 run folder. Raises LineageError where `stg` was
    learnt from another cache, DataError where the cache lacks a split or the stage-1 classifier that the head starts from,
    TrainingError for a loss or for probabilities that are not finite. Where another process trains the same classifier, this
    one waits and takes it.
    """
    run = planned(settings, cache, root, stg)
    with folders.work_to_do(run.folder, "classifier") as to_do:
        if to_do:
            started = time.monotonic()
            with on_interrupt(CLASSIFIER_NOT_KEPT):
                classifier = train_classifier(run.settings, cache, seeds_of(settings), run.generator)
            return run.folder, publish(run, cache, classifier, started)
    return run.folder, _result(run.folder)


def publish(run: Run, cache: FeatureCache, classifier: Classifier | Scored, started: float) -> RetrainResult:
    """Measure a run's classifier on the test split and write its folder, metrics.json last.

    `started`: the time, of time.monotonic, from which the run's seconds count.
    """
    settings, seeds = run.settings, seeds_of(run.settings)
    folders.start(run.folder, settings)
    prior = settings.evaluate.prior
    if prior and classifier.prior_power is None:
        note(f"{run.method}: its scores are no log probabilities; its figures are not moved to evaluate.prior")
        prior = ""
    measured = _measured(settings, cache, classifier, prior)
    tensors = classifier.tensors()
    metadata = {
        "stage": "classifier",
        "method": run.method,
        "architecture": classifier.architecture,
        "cache": cache.key,
        "stg": run.generator_digest or "",
    }
    checkpoint.save(run.folder / CLASSIFIER, tensors, metadata)
    predicted = {"test": measured.predicted_RN}
    checkpoint.save(run.folder / PREDICTIONS, predicted, {"cache": cache.key})
    result = summarise(
        measured.metrics,
        seeds,
        method=run.method,
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        stg=run.generator_digest,
        digest=checkpoint.digest(tensors),
        predictions=checkpoint.digest(predicted),
        split="test",
        selection=classifier.selection
        or Selection(on="last epoch" if settings.retrain.is_trained else "nothing to choose"),
        chosen=settings.retrain.head == "auto",
        classes=list(cache.classes),
        seconds=round(time.monotonic() - started, 3),
        prior=prior,
        prior_power=classifier.prior_power,
        test_views=averaged_views(cache, "test", settings.retrain.test_views),
        settings=made_by(settings),
    )
    folders.write_json(run.folder / "metrics.json", result)
    return result


def _measured(settings: Settings, cache: FeatureCache, classifier: Classifier | Scored, prior: str) -> Measured:
    """The figures on the test split. Raises TrainingError, with the settings that can do it, where they are not finite."""
    try:
        return measure(cache, "test", classifier, settings, prior, settings.retrain.test_views)
    except NotFinite as error:
        head = settings.retrain.head
        numbers = sorted(HEADS[head] & NUMBERS)
        remedy = f"of the settings that retrain.head={head} uses, set back {' or '.join(numbers)}"
        raise TrainingError(
            f"retrain: {error}; {remedy if numbers else 'look at the features with cache verify'}"
        ) from None


def split_figures(run: Run, split: str) -> RetrainResult | None:
    """The figures of a run on another split than test, where they were kept; None where they were not."""
    name = SPLIT_FIGURES.format(split=split)
    return folders.read_result(run.folder, RetrainResult, name) if (run.folder / name).is_file() else None


def publish_split(run: Run, split: str, measured: Measured, test_views: int) -> None:
    """Keep a finished run's figures on another split than test, of so many views of each row, beside metrics.json."""
    result = folders.read_result(run.folder, RetrainResult)
    same = result.beside_figures()
    figures_there = summarise(measured.metrics, result.seeds, **{**same, "split": split, "test_views": test_views})
    folders.write_json(run.folder / SPLIT_FIGURES.format(split=split), figures_there)


def evaluate_run(
    folder: Path, cache: FeatureCache, split: str, prior: str | None = None, views: int | str = 1
) -> RetrainResult:
    """The figures of a finished run's classifier on a split of the cache that it was made from.

    `prior` as in `evaluate.prior`; None: that of the run, empty: none. `views` as `retrain.test_views`, whatever the run has.

    Raises LineageError for another cache, DataError where the cache lacks the split, the classifier is not the one that the
    run recorded, or its file does not hold all of it.
    """
    result = folders.read_result(folder, RetrainResult)
    if result.cache != cache.key:
        raise LineageError(
            f"{folder}: made from cache {result.cache[:12]}, wanted {cache.key[:12]}; name it with --cache"
        )
    classifier = saved_classifier(folder, result)
    if classifier is None:
        raise DataError(f"{folder / CLASSIFIER}: {INCOMPLETE}")
    settings = Settings.model_validate({"longtail": result.settings.get("longtail", {})})
    prior = result.prior if prior is None else prior
    if prior and result.prior_power is None:
        raise DataError(
            f"{folder}: the scores of {result.method} are not known to be log probabilities, so no prior can be put to them; run "
            "retrain again where it is of an earlier version, or leave out --prior"
        )
    views = averaged_views(cache, split, views) if views != 1 else 1
    each_seed = measure(cache, split, classifier, settings, prior, views).metrics
    same = result.beside_figures()
    return summarise(each_seed, result.seeds, **{**same, "split": split, "prior": prior, "test_views": views})


def seeds_of(settings: Settings) -> list[int]:
    """`seed`, `seed` + 1, …; a head that draws nothing has one."""
    count = settings.retrain.seeds if settings.retrain.is_trained else 1
    return [settings.seed + offset for offset in range(count)]
