"""Backbones by name, each a `Backbone`: from images (B, 3, S, S) to features (B, D), with D as its `width`."""

import torch

from pipeline.backbones.backbone import Backbone
from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.endings import with_ending
from pipeline.backbones.ready_made import TIMM, load_weights, timm_backbone
from pipeline.backbones.resnet import BACKBONES
from pipeline.errors import ConfigError
from pipeline.rng import derive
from pipeline.settings import Settings

LAYER = "pooled"
"""The feature's name in a cache's identity: the globally averaged last feature map, before the classifier."""


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
    """A backbone of `BACKBONES` with a fresh classifier of `classes` outputs; parameters drawn from `seed`.

    `weights`: "" for random, a torchvision weights entry such as "IMAGENET1K_V2", or a .safetensors file. `ending` is put
    behind the network that they are of.
    Raises ConfigError for a name or an entry there is not, DataError where weights cannot be had or do not fit.
    """
    if name not in BACKBONES and not name.startswith(TIMM):
        raise ConfigError(f"backbone.name: wanted one of {', '.join(BACKBONES)}, found {name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        pretrained = name.startswith(TIMM) and weights == "pretrained"
        backbone: Backbone = timm_backbone(name, pretrained) if name.startswith(TIMM) else BACKBONES[name]()
        weights = "" if pretrained else weights
        if ending != "plain":
            if weights:
                load_weights(backbone, name, weights)
            return ImageClassifier(with_ending(backbone, name, ending), classes, cosine_scale)
        model = ImageClassifier(backbone, classes, cosine_scale)
    if weights:
        load_weights(backbone, name, weights)
    return model
