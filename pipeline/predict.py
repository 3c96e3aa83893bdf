"""A finished classifier on new images or features: the likeliest classes of each, with probabilities."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from cache import FeatureCache
from pipeline import features
from pipeline.artefacts import folders
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.errors import DataError
from pipeline.evaluate import shift_to
from pipeline.images.decoding import Item
from pipeline.images.gathering import Named
from pipeline.longtail import Rows
from pipeline.predicting.files import Prediction
from pipeline.progress import track
from pipeline.stage3_record import CLASSIFIER, INCOMPLETE, RetrainResult, saved_classifier

CHUNK = 512
"""Images that are decoded, predicted and written at a time."""


@dataclass(frozen=True)
class Predictor:
    """A run's classifier, its class names, and the temperature that its logits are divided by.

    Replicas of several seeds are averaged: the mean of their probabilities.
    """

    classifier: Classifier | Scored
    classes: tuple[str, ...]
    digest: str
    temperature: float = 1.0
    shift_C: Tensor | None = None
    """Added to the logits, (C,), it moves them to the class prior of `evaluate.prior`; see `evaluate.prior_shift`."""

    @property
    def width(self) -> int:
        """D, numbers of a feature."""
        return self.classifier.width

    def replica(self, place: int) -> "Predictor":
        """The classifier of one seed alone, the `place`-th."""
        return replace(self, classifier=self.classifier.only([place]))

    def probabilities(self, features_BD: Tensor) -> Tensor:
        """(B, D) -> (B, C). Of several views of each row, (V, B, D), the mean of their probabilities."""
        if features_BD.ndim == 3:
            return torch.stack([self.probabilities(view_BD) for view_BD in features_BD]).mean(dim=0)
        logits_RBC = self.classifier.logits(features_BD.float()) / self.temperature
        return (logits_RBC if self.shift_C is None else logits_RBC + self.shift_C).softmax(dim=-1).mean(dim=0)

    def top(self, names: Sequence[str], features_BD: Tensor, count: int) -> list[Prediction]:
        """The `count` likeliest classes of each row."""
        return top_predictions(names, self.probabilities(features_BD), self.classes, count)


def top_predictions(
    names: Sequence[str], probabilities_BC: Tensor, classes: Sequence[str], count: int
) -> list[Prediction]:
    """The `count` likeliest classes of each row, the likeliest first."""
    values_BK, classes_BK = probabilities_BC.topk(min(count, len(classes)), dim=1)
    return [
        Prediction(name, tuple(classes[c] for c in numbers), tuple(values))
        for name, numbers, values in zip(names, classes_BK.tolist(), values_BK.tolist(), strict=True)
    ]


class Reads(Protocol):
    """Turns images into a classifier's inputs: an `encoder.Encoder`, or an exported model."""

    def features(self, items: Sequence[Item]) -> tuple[Tensor, list[int], dict[int, str]]:
        """Inputs of the images that can be decoded, their positions, and for each other position the reason."""
        ...


class Classifies(Protocol):
    """Gives the likeliest classes of inputs: a run's `Predictor`, or an exported model."""

    @property
    def width(self) -> int: ...

    def top(self, names: Sequence[str], features_BD: Tensor, count: int) -> list[Prediction]: ...


def predictor_of(folder: Path, cache: FeatureCache | None = None, prior: str | None = None) -> Predictor:
    """The classifier of a finished run of stage 3; calibrated on the `val` split where its cache is given and has one.

    `prior` as in `evaluate.prior`; None: that of the run, empty: none.

    A run for a class prior that the user stated gives probabilities under that prior; its cache, which has the training counts,
    is then wanted. Raises DataError without it, and for a classifier that is not the one its run recorded.
    """
    result = folders.read_result(folder, RetrainResult)
    classifier = saved_classifier(folder, result)
    if classifier is None:
        raise DataError(f"{folder / CLASSIFIER}: {INCOMPLETE}")
    predictor = Predictor(
        classifier, tuple(result.classes), result.digest, shift_C=_prior_shift(folder, result, cache, prior)
    )
    if cache is None or "val" not in cache.splits:
        return predictor
    val = features.load(cache, "val", views=False)
    logits_RNC = torch.cat([classifier.logits(val.gather(0, rows_B)) for rows_B in val.blocks()], dim=1)
    return replace(predictor, temperature=fit_temperature(logits_RNC, val.labels_N))


def _prior_shift(folder: Path, result: RetrainResult, cache: FeatureCache | None, prior: str | None) -> Tensor | None:
    asked = bool(prior)
    prior = result.prior if prior is None else prior
    if asked and result.prior_power is None:
        raise DataError(f"{folder}: the scores of {result.method} are no log probabilities; leave out --prior")
    if not prior or result.prior_power is None:
        return None
    if cache is None:
        raise DataError(f"{folder}: made for the class prior {prior}, which wants its cache's counts; name the cache")
    return shift_to(prior, cache, result.prior_power)


def fit_temperature(logits_RNC: Tensor, labels_N: Tensor) -> float:
    """T > 0 of the least mean -log softmax(z / T)_y over rows and replicas (Guo et al., 2017, section 4.2).

    Between 1/50 and 50. The loss has one minimum in 1 / T.
    """
    flat_MC = logits_RNC.double().flatten(0, 1)
    target_M = labels_N.repeat(len(logits_RNC))

    def loss(log_t: float) -> float:
        return float(F.cross_entropy(flat_MC / math.exp(log_t), target_M))

    bounds = (-math.log(50), math.log(50))
    return math.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x)


def predict_images(
    predictor: Classifies, encoder: Reads, origins: Sequence[Named], count: int, done: int = 0
) -> Iterator[list[Prediction]]:
    """Predictions of all images but the first `done`, CHUNK at a time. What cannot be decoded is among them, with the reason."""
    total = sum(len(origin.names) for origin in origins)
    with track(total - done, "predicting", "images") as progress:
        for origin in origins:
            skipped = min(done, len(origin.names))
            done -= skipped
            for start in range(skipped, len(origin.names), CHUNK):
                rows = np.arange(start, min(start + CHUNK, len(origin.names)))
                yield _chunk(predictor, encoder, origin, rows, count)
                progress.advance(len(rows))


def _chunk(predictor: Classifies, encoder: Reads, origin: Named, rows: Rows, count: int) -> list[Prediction]:
    # A file's name may be no UTF-8, for which JSON and Parquet have no place.
    names = [origin.names[row].encode("utf-8", "backslashreplace").decode() for row in rows]
    features_BD, positions, broken = encoder.features(origin.take(rows))
    readable = predictor.top([names[position] for position in positions], features_BD, count)
    by_position = dict(zip(positions, readable, strict=True))
    return [
        by_position[position] if position in by_position else Prediction(name, broken=broken[position])
        for position, name in enumerate(names)
    ]


def predict_features(
    predictor: Classifies,
    blocks: Iterator[NDArray[np.floating[Any]]],
    total: int,
    count: int,
    where: str,
    done: int = 0,
) -> Iterator[list[Prediction]]:
    """Predictions of rows of features (B, D), named by their numbers.

    Raises DataError for features of another width and for a value that is not finite.
    """
    width = predictor.width
    first = 0
    with track(total, "predicting", "rows") as progress:
        for block_BD in blocks:
            if block_BD.ndim != 2 or block_BD.shape[1] != width:
                raise DataError(
                    f"{where}: wanted features (N, {width}), found rows of shape {block_BD.shape[1:]}; give the features that "
                    "this classifier was made for"
                )
            features_BD = torch.from_numpy(np.array(block_BD, dtype=np.float32))
            bad_B = ~torch.isfinite(features_BD).all(dim=1)
            if bad_B.any():
                raise DataError(
                    f"{where}: row {first + int(bad_B.int().argmax())}: a value is not finite; correct the file"
                )
            skip = max(0, min(done - first, len(features_BD)))
            names = [str(first + row) for row in range(skip, len(features_BD))]
            first += len(features_BD)
            if names:
                yield predictor.top(names, features_BD[skip:], count)
            progress.advance(len(block_BD))
