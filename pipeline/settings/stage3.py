"""[retrain]: heads, augmentations, their labels."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator, ValidationError, WrapValidator, model_validator
from pydantic_core import PydanticCustomError

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
DEAR = tuple(name for name, row in register.HEADS.items() if not row.compared)
"""Heads that are compared only where they are named."""
AUGMENTATIONS: dict[str, str] = {name: row.label for name, row in register.AUGMENTATIONS.items() if row.label}
"""What people call each augmentation."""
ALWAYS_COMPARED = tuple(name for name, row in register.AUGMENTATIONS.items() if row.label and row.compared)
"""Augmentations that are arms of every comparison."""
READS_MAPS = tuple(name for name, row in register.AUGMENTATIONS.items() if row.reads_maps)
"""Augmentations of feature maps, for caches that hold them."""
VALIDATES = tuple(name for name, row in register.HEADS.items() if row.reads_val)
"""Heads that learn or choose something on rows held out: on the `val` split, where the cache has one."""
AUTOMATIC: dict[str, float] = {"tau": 1.0, "l2": 0.03, "shrinkage": 0.6, "transfer": 3.0}
"""What `auto` stands for in these settings where no rows can be held out, or where the head does not choose."""
SEEN_L2 = 0.003
"""What `l2 = "auto"` stands for in `logistic` on rows that the backbone was trained on."""
CHOOSES: dict[str, tuple[str, ...]] = {
    "logistic": ("l2", "tau"),
    "lda": ("shrinkage",),
    "transfer": ("shrinkage", "transfer"),
}
"""Head -> those of AUTOMATIC that it chooses itself, from rows held out, where they are `auto`."""
ADDED: dict[str, object] = {
    "distance": "cosine", "borrow": "auto", "steps": 0, "warmup_steps": 0, "focal_gamma": 1.0, "reweight_beta": 0.9999,
    "reweight_start": 0.8, "reweight_power": 1.2, "margin": 0.5, "cosine_scale": 30.0, "cloud": 0.5, "semantic_strength": 0.5,
    "covariance": "diagonal", "meta_rate": 0.1, "max_norm": 0.1, "hidden": 512, "fused": 0.25, "neighbour_classes": 2,
    "spread": 0.21, "test_views": 1, "specific_above": 0.8, "generic_below": 0.2, "fused_rows": 0.75,
}  # fmt: skip
"""Settings of `retrain` that came later, with what was done before there were any: at that value they change no run's key."""


def _auto_log_or_k(value: object) -> object:
    if value in ("auto", "log"):
        return value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"retrain.borrow: wanted auto, log or a number of at least 0, found {value!r}")
    return number


def _all_or_count(value: object) -> object:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"retrain.test_views: wanted all or a whole number of at least 1, found {value!r}")


TestViews = Annotated[int | Literal["all"], PlainValidator(_all_or_count)]
Borrow = Annotated[float | Literal["auto", "log"], PlainValidator(_auto_log_or_k)]


def _auto_or_number(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError as error:
        # The union's own errors are two, and name the types inside it.
        bound = error.errors()[-1]["msg"].removeprefix("Input should be ")
        bound = f"a number {bound}" if bound.startswith(("greater", "less")) else bound
        raise PydanticCustomError("auto_or_number", "Input should be 'auto' or {bound}", {"bound": bound}) from None


AUTO = WrapValidator(_auto_or_number)
"""Lets a setting be `auto` beside the numbers that its type allows."""


class Choice(Section):
    """What `auto` chooses by: the head `auto`, and the settings of other heads that are `auto`."""

    metric: Literal["balanced", "accuracy"] = "balanced"
    """Every class counts alike, or every row does: for those who will meet the training prior."""


class Evaluate(Section):
    """What figures are taken for."""

    prior: str = ""
    """The class shares that a classifier will meet: `train`, `uniform`, a .json file of a share by class name or in class order,
    or shares in class order, such as 0.5,0.3,0.2. Logits are moved to that prior before anything is counted. Empty: not moved."""


class Retrain(Section):
    """The classifier on cached features (paper, section 3.4)."""

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
    tau: Annotated[Literal["auto"] | NonNegative, AUTO] = "auto"
    """Strength of `logit-adjustment`, `logit-adjusted`, `tau-norm` and of the adjustment of `logistic`. `auto`: for `logistic`
    the likeliest on rows held out, where the backbone never saw the training rows or the cache has a `val` split; else 1.
    Where a number of `logistic`, `lda` or `transfer` is chosen so, the classifier is divided by its temperature on those rows."""
    l2: Annotated[Literal["auto"] | Positive, AUTO] = "auto"
    """`logistic`: strength of the penalty, on a mean loss and whitened columns. `auto`: as for `tau`; else 0.003 on
    rows that the backbone saw, 0.03 on others."""
    shrinkage: Annotated[Literal["auto"] | Annotated[float, Field(ge=0, le=1)], AUTO] = "auto"
    """`lda`, `transfer`: how far the covariance within classes is drawn to a multiple of the identity. `auto`: as for `tau`;
    else 0.6."""
    transfer: Annotated[Literal["auto"] | NonNegative, AUTO] = "auto"
    """Head `transfer`: k of s = k / (n_c + k), the share of the way that the mean of a class of n_c rows moves. `auto`: as for
    `tau`; else 3."""
    distance: Literal["cosine", "l2"] = "cosine"
    """`ncm`: which class mean is nearest, by the angle between normalised features or by Euclidean distance."""
    neighbours: Annotated[int, Field(ge=1, le=100_000)] = 10
    """`knn`: how many vote."""
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    """Replicas trained at once, with seeds `seed`, `seed` + 1, …"""

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
    """`distribution-calibration`, `tailcalibx`, `feature-aug`: from how many classes a row borrows."""
    spread: NonNegative = 0.21
    """`distribution-calibration`, `tailcalibx`: what is added to the covariance that is borrowed."""
    test_views: TestViews = 1
    """Over how many views of each test row probabilities are averaged; 1: the clean one alone; `all`: as many as the cache has.
    Figures of different numbers of views are not comparable."""
    specific_above: Annotated[float, Field(ge=0, le=1)] = 0.8
    """`feature-aug`: places of a tail row's map whose class activation is above this are of its class."""
    generic_below: Annotated[float, Field(ge=0, le=1)] = 0.2
    """`feature-aug`: places of a head row's map whose class activation is below this are background."""
    fused_rows: Annotated[float, Field(ge=0, le=1)] = 0.75
    """`feature-aug`: the share of the tail's rows that are fused; the others stay as they are."""

    def keyed(self) -> dict[str, Any]:
        """What a run's key is made of. A setting that came later is left out where it is at what was done before, so older
        keys hold."""
        values = self.model_dump(mode="json")
        return {name: value for name, value in values.items() if name not in ADDED or value != ADDED[name]}

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

    def number(self, name: str) -> float:
        """The value of one of AUTOMATIC; what `auto` stands for without rows held out."""
        value = getattr(self, name)
        return AUTOMATIC[name] if value == "auto" else float(value)

    def settled(self, chooses: bool) -> "Retrain":
        """These settings with a number for each `auto` of AUTOMATIC that the head does not choose; `chooses`: whether there are
        rows to choose on."""
        left = CHOOSES.get(self.head, ()) if chooses else ()
        numbers = {name: self.number(name) for name in AUTOMATIC if name not in left}
        if self.head == "logistic" and self.l2 == "auto" and not chooses:
            numbers["l2"] = SEEN_L2
        return self.model_copy(update=numbers)

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
