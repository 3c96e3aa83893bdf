"""Networks by name, with the weights they begin with."""

from pipeline.backbones.backbone import Backbone
from pipeline.backbones.efficientnet_lite import EfficientNetLite0
from pipeline.backbones.packaged import PACKAGES, check_at_hand, packaged_weights
from pipeline.backbones.ready_made import (
    OPEN_CLIP,
    PRETRAINED,
    TIMM,
    load_file,
    load_torchvision,
    open_clip_backbone,
    package,
    timm_backbone,
    torchvision_backbone,
    torchvision_names,
)
from pipeline.backbones.resnet import BACKBONES
from pipeline.backbones.suggestions import unknown
from pipeline.errors import ConfigError

LITE = "efficientnet-lite0"


def check_name(name: str, weights: str = "") -> None:
    """Raise ConfigError for a name there is not, or one whose package is missing: at once, where images take long to read."""
    if name.startswith(TIMM):
        package("timm", name, "timm")
    elif name.startswith(OPEN_CLIP):
        package("open_clip", name, "open_clip_torch")
    elif name in PACKAGES:
        if weights == PRETRAINED:
            check_at_hand(name)
    elif name not in BACKBONES and name not in torchvision_names():
        raise unknown(name, (*BACKBONES, *PACKAGES))


def network(name: str, weights: str = "") -> Backbone:
    """The network of a name, random where `weights` is "": see `build`. Parameters are drawn from torch's global generator.

    Raises ConfigError for a name or weights there are not, DataError where weights cannot be had or do not fit.
    """
    from_file = weights.endswith(".safetensors")
    hub = "" if from_file else weights
    if name.startswith(TIMM):
        backbone: Backbone = timm_backbone(name, hub)
    elif name.startswith(OPEN_CLIP):
        backbone = open_clip_backbone(name, hub)
    elif name == LITE:
        backbone = EfficientNetLite0()
        if hub == PRETRAINED:
            backbone.load_state_dict(packaged_weights(name))
        elif hub:
            raise ConfigError(
                f"backbone.weights: wanted '', a .safetensors file or, for {name}, pretrained, found {hub!r}"
            )
    elif name in BACKBONES:
        backbone = BACKBONES[name]()
        if hub:
            load_torchvision(backbone, name, hub)
    elif name in torchvision_names():
        backbone = torchvision_backbone(name, hub)
    else:
        raise unknown(name, (*BACKBONES, *PACKAGES))
    if from_file:
        load_file(backbone, name, weights)
    return backbone
