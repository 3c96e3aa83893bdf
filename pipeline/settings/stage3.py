"""[retrain]: heads, augmentations, their labels."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.section import Count, NonNegative, Positive, Section, Share

POST_HOC = ("stage1", "logit-adjustment", "tau-norm", "ncm")


class Retrain(Section):
    """The classifier on cached features (paper, section 3.4)."""

    head: Literal["stage1", "crt", "lws", "generalized", "logit-adjustment", "tau-norm", "ncm"] = "crt"
    augmentation: Literal["none", "stg", "closed-form", "dropout", "noise"] = "stg"
    strength: NonNegative = 1.5
    """lambda of Eq. 3."""
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """t of Eq. 4: the share of dimensions taken from the augmented feature."""
    augmented: Literal["tail", "all"] = "tail"
    dropout: Share = 0.3
    noise: NonNegative = 0.5
    start: Literal["stage1", "fresh"] = "stage1"
    sampling: Literal["balanced", "instance"] = "balanced"
    views: bool = True
    epochs: Count = 10
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
    """Strength of `logit-adjustment` and `tau-norm`."""
    seeds: Count = 1
    """Replicas trained at once, with seeds `seed`, `seed` + 1, …"""


def uses_stg(settings: Retrain) -> bool:
    """Whether these settings need a generator."""
    return settings.head not in POST_HOC and settings.augmentation == "stg"
