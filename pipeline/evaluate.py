"""Figures of a backbone or a classifier on a split."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cache import FeatureCache
from pipeline import features
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.errors import ConfigError, TrainingError
from pipeline.features import Features
from pipeline.machine.device import on_device
from pipeline.metrics import Metrics, evaluate
from pipeline.progress import track
from pipeline.settings import Settings
from pipeline.settings.paths import home_expanded
from pipeline.settings.stage1 import LongTail

if TYPE_CHECKING:
    from pipeline.backbones.classifier import ImageClassifier
    from pipeline.images.dataset import Dataset

EVALUATION_BATCH = 500
"""Images that go through a backbone at a time."""
PRIOR_BYTES = 64 << 20
"""A file of class shares may have so many bytes: a million classes, each with a name of 40 characters and a share."""


class NotFinite(ArithmeticError):
    """A classifier's probabilities are not finite, so no figure can be given of it. The stage knows which setting did it."""


def measured(groups: LongTail, dataset: "Dataset") -> dict[str, Any]:
    """What a backbone's figures depend on beside its weights; where that has changed, they are measured again.

    `groups` has the limits between many, medium and few.
    """
    return {"test": dataset.splits["test"].content_digest(), "groups": [groups.many_above, groups.few_below]}


def backbone_figures(settings: Settings, dataset: "Dataset", model: "ImageClassifier") -> dict[str, Any]:
    """The metrics of a backbone and its classifier on the test images, with what was `measured`.

    Raises TrainingError where its probabilities are not finite.
    """
    from pipeline.backbones.inference import blocks, outputs  # late: stages 2 and 3 do without torchvision

    test = dataset.splits["test"]
    model.eval()
    blocks_of_rows = blocks(0, len(test), EVALUATION_BATCH)
    with track(len(test), "test images", "images") as progress:
        logits = []
        for logits_BC in outputs(model, test, blocks_of_rows, settings.data, settings.stage1.amp):
            logits.append(logits_BC)
            progress.advance(len(logits_BC))
    labels_N = torch.from_numpy(test.labels_N)
    try:
        metrics = _metrics(torch.cat(logits), labels_N, "test", dataset.counts(), settings.longtail)
    except NotFinite as error:
        raise TrainingError(
            f"stage 1: {error}; lower stage1.learning_rate, found {settings.stage1.learning_rate:g}, or set stage1.amp=off"
        ) from None
    return {**metrics.model_dump(mode="json"), "measured": measured(settings.longtail, dataset)}


def class_shares(prior: str, classes: Sequence[str], counts_C: Tensor) -> Tensor:
    """The shares (C,) of a class prior, summing to 1, float64: `train`, `uniform`, numbers with commas, or a .json file.

    Raises ConfigError where the text or the file is none of these or its shares do not fit the classes.
    """
    if prior == "uniform":
        return torch.full((len(classes),), 1 / len(classes), dtype=torch.float64)
    if prior == "train":
        return counts_C.double() / counts_C.sum()
    if prior.endswith(".json"):
        values = _shares_in(Path(home_expanded("evaluate.prior", prior)), classes)
    else:
        values = [_number(text, f"evaluate.prior {prior[:60]!r}") for text in prior.split(",")]
    where = f"evaluate.prior {prior[:60]}"
    if len(values) != len(classes):
        raise ConfigError(f"{where}: wanted {len(classes)} shares, one a class, found {len(values)}")
    shares_C = torch.tensor(values, dtype=torch.float64)
    if not bool((shares_C >= 0).all()) or not 0 < float(shares_C.sum()) < math.inf:
        raise ConfigError(
            f"{where}: wanted shares of at least 0 that are not all 0, found {min(values):g} to {max(values):g}"
        )
    return shares_C / shares_C.sum()


def _shares_in(path: Path, classes: Sequence[str]) -> list[float]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ConfigError(f"evaluate.prior {path}: wanted a JSON file, found no plain file")
        if (size := path.stat().st_size) > PRIOR_BYTES:
            raise ConfigError(f"evaluate.prior {path}: wanted a file of at most {PRIOR_BYTES} bytes, found {size}")
        content = json.loads(path.read_text(encoding="utf-8"))
    except ConfigError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"evaluate.prior {path}: cannot be read as JSON: {error}") from None
    if isinstance(content, dict):
        unknown, missing = sorted(set(content) - set(classes)), [name for name in classes if name not in content]
        if unknown or missing:
            problem = f"no share of {missing[0]!r}" if missing else f"a share of {unknown[0]!r}, which is no class"
            raise ConfigError(
                f"evaluate.prior {path}: wanted a share for each of {len(classes)} classes, found {problem}"
            )
        content = [content[name] for name in classes]
    if not isinstance(content, list):
        raise ConfigError(
            f"evaluate.prior {path}: wanted a list or an object of shares, found {type(content).__name__}"
        )
    return [_number(value, f"evaluate.prior {path}") for value in content]


def _number(value: object, where: str) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            return float(value)
    raise ConfigError(f"{where}: wanted train, uniform, a .json file or a number a class, found {str(value)[:40]!r}")


def prior_shift(shares_C: Tensor, counts_C: Tensor, power: float) -> Tensor:
    """The shift (C,) that moves logits to a class prior of these shares: log p_c - power log n_c / N, float32.

    `power` is how much of the training prior the logits have, as in `Classifier.prior_power`. An empty class counts as one row; a
    share of 0 gives -inf.
    """
    train_C = counts_C.double().clamp(min=1)
    return (shares_C.log() - power * (train_C / train_C.sum()).log()).float()


def expected_shares(prior: str, cache: FeatureCache) -> Tensor | None:
    """The class shares (C,) that `evaluate.prior` names on this cache; None where it names none. Raises ConfigError."""
    return class_shares(prior, cache.classes, torch.as_tensor(cache.counts("train"))) if prior else None


def shift_to(prior: str, cache: FeatureCache, power: float | None) -> Tensor | None:
    """What moves logits with this `power` of the training prior to the prior that is named, (C,), as in `prior_shift`.

    None where none is named, or where the power is not known: then the scores are no log probabilities.
    """
    shares_C = expected_shares(prior, cache)
    if shares_C is None or power is None:
        return None
    return prior_shift(shares_C, torch.as_tensor(cache.counts("train")), power)


@dataclass(frozen=True)
class Measured:
    """Each replica's metrics on a split, and the class that it predicts for each row, int32 (R, N)."""

    metrics: list[Metrics]
    predicted_RN: Tensor


@torch.no_grad()
def measure(
    cache: FeatureCache,
    split: str,
    classifier: Classifier | Scored,
    settings: Settings,
    prior: str = "",
    test_views: int | str = 1,
) -> Measured:
    """Each replica's metrics on a split, and the predictions that they were taken from.

    Probabilities are the mean over the first `test_views` views of a row, by default its clean view alone; `all` takes all views.
    Groups are by the training counts. `prior` is one that `evaluate.prior` may name; a classifier whose scores are no log
    probabilities is measured as it is. Raises NotFinite where a probability is not finite.
    """
    first = 1 if test_views == 1 else features.averaged_views(cache, split, test_views)
    with on_device(settings) as device:
        rows, there = features.load(cache, split, ram_limit=settings.ram_limit, first=first), classifier.on(device)
        shift_C = shift_to(prior, cache, classifier.prior_power)
        logits_RNC = torch.cat([_logits(there, rows, rows_B, shift_C) for rows_B in rows.blocks()], dim=1)
        return measured_logits(logits_RNC, rows.labels_N, split, cache.counts("train").tolist(), settings.longtail)


def _logits(classifier: Classifier | Scored, rows: Features, rows_B: Tensor, shift_C: Tensor | None) -> Tensor:
    """Logits of rows (R, B, C); of several views, the logarithm of the mean of their probabilities."""
    views = [classifier.logits(rows.gather(view, rows_B)) for view in range(rows.views)]
    views = views if shift_C is None else [logits_RBC + shift_C for logits_RBC in views]
    if len(views) == 1:
        return views[0]
    return torch.stack(views).log_softmax(dim=-1).logsumexp(dim=0) - math.log(len(views))


def measured_logits(logits_RNC: Tensor, labels_N: Tensor, split: str, counts: list[int], groups: LongTail) -> Measured:
    """Metrics and predictions of logits (R, N, C) on a split; `counts` are the training rows of each class.

    `groups` has the limits between many, medium and few. Raises NotFinite where a probability is not finite.
    """
    metrics = [_metrics(logits_NC, labels_N, split, counts, groups) for logits_NC in logits_RNC]
    return Measured(metrics, logits_RNC.argmax(dim=2).int().cpu())


def _metrics(logits_NC: Tensor, labels_N: Tensor, split: str, counts: list[int], groups: LongTail) -> Metrics:
    probabilities_NC = logits_NC.softmax(dim=1)
    if not bool(torch.isfinite(probabilities_NC.sum())):
        raise NotFinite(f"on the {split} split the classifier's probabilities are not finite")
    return evaluate(probabilities_NC, labels_N, counts, groups.many_above, groups.few_below)
