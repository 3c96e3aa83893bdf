"""[retrain]: heads, augmentations, their labels."""

import math
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from pipeline.settings.section import Count, NonNegative, Positive, Section, Share

HeadName = Literal[
    "stage1",
    "logit-adjustment",
    "tau-norm",
    "ncm",
    "knn",
    "ridge",
    "logistic",
    "lda",
    "transfer",
    "auto",
    "crt",
    "lws",
    "generalized",
    "logit-adjusted",
]
HEADS: dict[str, str] = {
    "stage1": "stage 1",
    "logit-adjustment": "logit adjustment",
    "tau-norm": "tau-normalisation",
    "ncm": "nearest class mean",
    "knn": "nearest neighbours",
    "ridge": "random ridge",
    "logistic": "logistic regression",
    "lda": "LDA",
    "transfer": "LDA, means transferred",
    "auto": "auto",
    "crt": "cRT",
    "lws": "LWS",
    "generalized": "generalised classifier",
    "logit-adjusted": "logit-adjusted loss",
}
"""What people call each head. How it becomes a classifier stands in `pipeline/classifiers/kinds.py`, one row a head."""
PRIOR_AWARE = ("logit-adjusted",)
"""Heads whose loss corrects the training prior; class-balanced sampling would correct it twice."""
TRAINED = ("crt", "lws", "generalized", "logit-adjusted")
"""Heads that are trained step by step, on features that may be augmented; the others are computed."""

AugmentationName = Literal["none", "dropout", "noise", "transfer", "closed-form", "stg"]
AUGMENTATIONS: dict[str, str] = {
    "dropout": "+ dropout",
    "noise": "+ noise",
    "transfer": "+ transferred means",
    "closed-form": "+ closed form",
    "stg": "+ STG",
}
"""What people call each augmentation. What it does to a step stands in `pipeline/augment/kinds.py`, one row each."""


def _auto_log_or_k(value: object) -> object:
    if value in ("auto", "log"):
        return value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"retrain.borrow: wanted auto, log or a number of at least 0, found {value!r}")
    return number


Borrow = Annotated[float | Literal["auto", "log"], PlainValidator(_auto_log_or_k)]


class Choice(Section):
    """What `auto` chooses by."""

    metric: Literal["balanced", "accuracy"] = "balanced"
    """Every class counts alike, or every row does: for those who will meet the training prior."""


class FirstRetrain(Section):
    """The settings of `[retrain]` that every run key holds. Those that came later stand in `Retrain`."""

    head: HeadName = "crt"
    augmentation: AugmentationName = "stg"
    strength: NonNegative = 1.5
    """lambda of Eq. 3."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """t of Eq. 4: the share of dimensions taken from the augmented feature."""
    augmented: Literal["tail", "all"] = "tail"
    dropout: Share = 0.3
    noise: NonNegative = 0.5
    start: Literal["auto", "stage1", "adjusted", "fresh"] = "auto"
    """The stage-1 classifier; the same adjusted by the training prior, so that class-balanced training need not learn that;
    or a new one, as cRT in Kang et al. `auto`: adjusted where the cache has a classifier, else fresh."""
    sampling: Literal["auto", "balanced", "instance"] = "auto"
    """`auto`: every class equally often; a loss that takes the prior into account sees the rows as they are."""
    views: bool = True
    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Passes over the rows. 0: until it has learnt, by the loss on held-out rows where the backbone never saw them, else for
    ten passes, of at least 300 steps."""
    batch_size: Count = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: Positive = 1e-3
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "cosine"] = "constant"
    classifier_factor: NonNegative = 0.2
    """`generalized`: learning rate of weights and biases over that of the scales."""
    smoothing_head: Share = 0.4
    smoothing_tail: Share = 0.1
    """`generalized`: label-aware smoothing of the largest and of the smallest class."""
    tau: NonNegative = 1.0
    """Strength of `logit-adjustment`, `logit-adjusted`, `tau-norm` and of the adjustment of `logistic`."""
    l2: Positive = 0.03
    """`logistic`: strength of the penalty, on a mean loss and standardised columns."""
    shrinkage: Annotated[float, Field(ge=0, le=1)] = 0.6
    """`lda`, `transfer`: how far the covariance within classes is drawn to a multiple of the identity."""
    transfer: NonNegative = 3.0
    """Head `transfer`: k of s = k / (n_c + k), the share of the way that the mean of a class of n_c rows moves."""
    neighbours: Annotated[int, Field(ge=1, le=100_000)] = 10
    """`knn`: how many vote."""
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Replicas trained at once, with seeds `seed`, `seed` + 1, …"""


class Retrain(FirstRetrain):
    """The classifier on cached features (paper, section 3.4)."""

    borrow: Borrow = "auto"
    """Augmentation `transfer`: k of s = k / (n_c + k), the share of the way that the rows of a class of n_c rows move. `auto`:
    k by cross-validation; on rows that the backbone was trained on, `log`. `log`: s = .55 - .085 ln n_c."""

    def keyed(self) -> dict[str, Any]:
        """What a run's key is made of. A setting that came later is left out at its default, so older keys hold."""
        later = {name: field for name, field in Retrain.model_fields.items() if name not in FirstRetrain.model_fields}
        return self.model_dump(
            mode="json", exclude={name for name, field in later.items() if getattr(self, name) == field.default}
        )

    @property
    def is_trained(self) -> bool:
        """Whether the head is trained step by step."""
        return self.head in TRAINED

    @property
    def sampled(self) -> Literal["balanced", "instance"]:
        """The sampling that `auto` stands for."""
        if self.sampling != "auto":
            return self.sampling
        return "instance" if self.head in PRIOR_AWARE else "balanced"

    @model_validator(mode="after")
    def _the_prior_is_corrected_once(self) -> "Retrain":
        if self.head in PRIOR_AWARE and self.sampling == "balanced":
            raise ValueError(
                f"retrain.head={self.head} corrects the training prior in its loss, and retrain.sampling=balanced would "
                "correct it again; set retrain.sampling=instance or auto"
            )
        return self


def uses_stg(settings: Retrain) -> bool:
    """Whether these settings need a generator."""
    return settings.is_trained and settings.augmentation == "stg"
