"""[stg]."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings.section import Count, NonNegative, Positive, Section, Share


class STG(Section):
    """The Semantic Transformation Generator (paper, section 3.3)."""

    epochs: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Passes over the head classes' rows. 0: until it has learnt, by its distance from the closed form on held-out head rows."""
    batch_size: Annotated[int, Field(ge=2, lt=1 << 40)] = 256
    learning_rate: Positive = 1e-3
    head_classes: Annotated[int, Field(ge=0, lt=1 << 40)] = 0
    """How many of the largest classes are head; 0: by the rules below."""
    head_above: Count = 100
    head_share_limit: Annotated[float, Field(gt=0, le=1)] = 0.6
    head_share: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Head: count > `head_above`; where that covers more than `head_share_limit` of the classes, the largest `head_share`."""
    memory: Annotated[int, Field(ge=0, lt=1 << 40)] = 1200
    """Features kept from earlier batches for Eq. 1."""
    full_statistics: bool = False
    """Exact class statistics of the whole split in place of batch and memory."""
    include_self: bool = True
    smoothing: Literal["class", "sample", "none"] = "class"
    smoothing_momentum: Share = 0.9
    loss: Literal["mse-log", "mse", "kl", "nll", "l1"] = "mse-log"
    variance: Literal["log", "softplus"] = "log"
    hidden: Annotated[tuple[Annotated[float, Field(gt=0, le=64)], ...], Field(max_length=16)] = (2.0, 2.0)
    """Widths of the hidden layers, in feature widths."""
    network: Literal["auto", "paper"] = "auto"
    """`paper`: the paper's two networks at any width. `auto`: narrow ones where features have over 512 channels and `stg.hidden`
    is at its default. They come as close to the closed form on held-out head rows in a part of the time."""
    token_std: NonNegative = 0.02
    similarity: Literal["l2", "cosine", "logit", "soft"] = "l2"
    """How the nearest head class of a tail sample is found, as in the paper; or `soft`: a class borrows from a mixture of head
    classes, by a share that falls with its rows and is learnt from episodes."""
    views: bool = True
    """Draw one of the cached views per sample and step; off: clean features only."""
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of each head class kept from training, on which the distance to the closed form is measured."""
