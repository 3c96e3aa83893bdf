"""[retrain]: heads, augmentations, their labels."""

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from pipeline.settings import register
from pipeline.settings.section import Count, NonNegative, Positive, Section, Share

if TYPE_CHECKING:
    HeadName = str
    AugmentationName = str
else:  # the register's names: pydantic refuses others, and lists these
    HeadName = Literal[tuple(register.HEADS)]
    AugmentationName = Literal[tuple(register.AUGMENTATIONS)]
HEADS: dict[str, str] = {name: row.label for name, row in register.HEADS.items()}
"""What people call each head."""
PRIOR_AWARE = tuple(name for name, row in register.HEADS.items() if row.prior_aware)
"""Heads whose loss corrects the training prior; class-balanced sampling would correct it twice."""
TRAINED = tuple(name for name, row in register.HEADS.items() if row.trained)
"""Heads that are trained step by step, on features that may be augmented; the others are computed."""
AUGMENTATIONS: dict[str, str] = {name: row.label for name, row in register.AUGMENTATIONS.items() if row.label}
"""What people call each augmentation."""
COMPARED = tuple(name for name, row in register.AUGMENTATIONS.items() if row.label and row.compared)
"""Augmentations that are arms of every comparison."""


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
    steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """How many steps a head is trained for; 0: as `epochs` says."""
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps in which the learning rate rises to its value, linearly."""
    focal_gamma: NonNegative = 1.0
    """`focal`, `gcl`: g of (1 - p)^g."""
    reweight_beta: Share = 0.9999
    """`class-balanced`, `ldam`, `max-norm`, `metasaug`: b of the class weights (1 - b) / (1 - b^n_c)."""
    reweight_start: Annotated[float, Field(ge=0, le=1)] = 0.8
    """`ldam`: the share of the steps after which class weights begin."""
    reweight_power: NonNegative = 1.2
    """`marc`, `disalign`: class weights are proportional to n_c to minus this."""
    margin: NonNegative = 0.5
    """`ldam`: the largest margin, that of the smallest class; `gcl`: the margin of every class."""
    cosine_scale: Positive = 30.0
    """`ldam`, `gcl`: what cosines are multiplied by."""
    cloud: NonNegative = 0.5
    """`gcl`: how far the cloud lowers a cosine of the smallest class at most."""
    semantic_strength: NonNegative = 0.5
    """`isda`, `metasaug`: r0 of r = r0 * share of the training that is done."""
    covariance: Literal["diagonal", "full"] = "diagonal"
    """`isda`, `distribution-calibration`, `tailcalibx`: of each class."""
    meta_rate: NonNegative = 0.1
    """`metasaug`: learning rate of the covariances in their meta step."""
    max_norm: Annotated[float, Field(ge=0, le=1)] = 0.1
    """`max-norm`: where the limit of a class's norm lies, from the least to the greatest norm that training starts from."""
    hidden: Annotated[int, Field(ge=1, le=65_536)] = 512
    """`oltr`: width of its features."""
    fused: Share = 0.25
    """`h2t`: the share of the channels that come from a row sampled as rows are."""
    neighbour_classes: Annotated[int, Field(ge=1, le=1000)] = 2
    """`distribution-calibration`, `tailcalibx`: from how many classes a row borrows."""
    spread: NonNegative = 0.21
    """`distribution-calibration`, `tailcalibx`: what is added to the covariance that is borrowed."""

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
