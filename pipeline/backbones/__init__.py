"""Backbones by name, each a `Backbone`: from images (B, 3, S, S) to features (B, D), with D as its `width`."""

import torch

from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.endings import with_ending
from pipeline.backbones.networks import network
from pipeline.rng import derive
from pipeline.settings import Settings


def build_for(settings: Settings, classes: int, weights: bool = False) -> ImageClassifier:
    """The settings' backbone and classifier, before training; with `weights`, the backbone starts from its own."""
    backbone, stage1 = settings.backbone, settings.stage1
    scale = stage1.cosine_scale if stage1.loss == "ldam" else None
    start = backbone.weights if weights else ""
    return build(backbone.name, classes, start, settings.seed, backbone.ending, scale)


def build(
    name: str,
    classes: int,
    weights: str = "",
    seed: int = 0,
    ending: str = "plain",
    cosine_scale: float | None = None,
) -> ImageClassifier:
    """A backbone by name with a fresh classifier of `classes` outputs; parameters drawn from `seed`.

    `name`: of `BACKBONES`, efficientnet-lite0, another classifier of torchvision, `timm:NAME` or `open_clip:MODEL`.
    `weights`: "" for random, a torchvision weights entry such as "IMAGENET1K_V2", open_clip's tag, "pretrained" where a
    network has one set of weights, or a .safetensors file. `ending` is put behind the network that they are of.
    Raises ConfigError for a name or an entry there is not, DataError where weights cannot be had or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        backbone = network(name, weights)
        if ending != "plain":
            backbone = with_ending(backbone, name, ending)
        return ImageClassifier(backbone, classes, cosine_scale)
