"""Heads as a scikit-learn classifier on arrays of features: fit, predict, predict_proba."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from pipeline.augment import UNCHANGED, augmentation_for
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.problem import Problem
from pipeline.features import Features
from pipeline.progress import silently
from pipeline.settings import Settings

EXTENT = 1e30
"""The largest absolute feature; squares of larger ones are infinite in float32."""
WANTS_RUNS = ("stg", "transfer")
"""Augmentations that are made from a cache: by a generator, or with statistics of its splits."""


class LongTailClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of features for classes of very different sizes.

    `head`: a value of `retrain.head`, such as auto, lda, logistic, crt. `options`: other settings of `retrain` by name, such as
    {"l2": 0.1}. `metric`: what `auto` chooses by, `balanced` (every class counts alike) or `accuracy`. `seed`: of all that is
    drawn. `standardise`: each column is centred and divided by its spread first, as stages 2 and 3 do; nothing that is learnt
    depends then on a column's unit.

    The rows are taken as such that no backbone was trained on: what is `auto` is chosen on rows held out.

    After `fit`: `classes_` (C,), `n_features_in_`, `classifier_` (on raw features) and, of a head that chose, `selection_`.
    """

    def __init__(
        self,
        head: str = "auto",
        *,
        options: dict[str, Any] | None = None,
        metric: str = "balanced",
        seed: int = 0,
        standardise: bool = True,
    ) -> None:
        self.head = head
        self.options = options
        self.metric = metric
        self.seed = seed
        self.standardise = standardise

    def fit(self, X: ArrayLike, y: ArrayLike) -> "LongTailClassifier":
        """Learn from features (N, D) and labels (N,) of any kind that can be sorted.

        Raises ValueError for one class alone, for numbers that are not finite or above EXTENT, and for settings that do not hold.
        """
        X_ND, y_N = validate_data(self, X, y, dtype=[np.float32, np.float64])
        check_classification_targets(y_N)
        self.classes_, labels_N = np.unique(y_N, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"LongTailClassifier: wanted at least 2 classes, found one class, {self.classes_[0]!r}")
        settings = self._settings()
        train = _features(X_ND, labels_N.astype(np.int64), len(self.classes_))
        train = train.standardised() if self.standardise else train
        retrain = settings.retrain.settled(chooses=True)
        trained = retrain.is_trained
        seeds = [self.seed + offset for offset in range(retrain.seeds if trained else 1)]
        augmentation = augmentation_for(settings, train, None, None, None) if trained else UNCHANGED
        problem = Problem(
            retrain, train, seeds, None, augmentation, True, False, None, settings.choice.metric, "the array", [retrain]
        )
        with silently():
            classifier = kind(retrain.head)(problem)
        self.classifier_ = classifier if train.coordinates is None else classifier.folded(train.coordinates)
        self.selection_ = self.classifier_.selection
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N, D) -> (N, C), rows sum to 1; of several seeds the mean of their probabilities."""
        check_is_fitted(self)
        X_ND = _in_float32(validate_data(self, X, reset=False, dtype=[np.float32, np.float64]))
        classifier = self.classifier_
        if isinstance(classifier, Classifier):  # in float64, a row's figures do not depend on the rows beside it
            classifier = Classifier(classifier.weight_RCD.double(), classifier.bias_RC.double())
            X_ND = X_ND.double()
        with torch.no_grad():
            return classifier.logits(X_ND).double().softmax(dim=2).mean(dim=0).numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """(N, D) -> (N,), each one of `classes_`."""
        probabilities_NC = self.predict_proba(X)
        return self.classes_[probabilities_NC.argmax(axis=1)]

    def _settings(self) -> Settings:
        options = {"augmentation": "none", **(self.options or {}), "head": self.head}
        if options["augmentation"] in WANTS_RUNS:
            raise ValueError(
                f"LongTailClassifier: augmentation {options['augmentation']!r} is made from a cache; use pipeline.retrain"
            )
        return Settings.model_validate({"seed": self.seed, "retrain": options, "choice": {"metric": self.metric}})


def _features(X_ND: NDArray[np.floating], labels_N: NDArray[np.int64], classes: int) -> Features:
    labels = torch.from_numpy(labels_N)
    return Features(_in_float32(X_ND)[None], labels, torch.bincount(labels, minlength=classes))


def _in_float32(X_ND: NDArray[np.floating]) -> torch.Tensor:
    largest = float(np.abs(X_ND).max(initial=0))
    if largest > EXTENT:
        raise ValueError(f"LongTailClassifier: wanted features of at most {EXTENT:g}, found {largest:g}; rescale them")
    return torch.from_numpy(np.ascontiguousarray(X_ND, dtype=np.float32))
