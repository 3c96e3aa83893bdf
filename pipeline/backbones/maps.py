"""The last feature map of a backbone, whose mean over its places is the feature."""

import torch
from torch import Tensor, nn

from pipeline.backbones.backbone import Backbone, MappedBackbone
from pipeline.errors import ConfigError
from pipeline.settings import Settings


class LastMap(nn.Module):
    """A backbone that gives its last map in place of the feature: (B, 3, S, S) -> (B, D, h, w)."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        assert isinstance(backbone, MappedBackbone)
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone.map(x)


def map_size(settings: Settings, backbone: Backbone) -> tuple[int, int] | None:
    """Height and width of the maps that `extract.maps` caches; None where it does not.

    Raises ConfigError where the feature is not the mean of one map.
    """
    if not settings.extract.maps:
        return None
    if settings.extract.layers != ("pooled",):
        raise ConfigError(
            f"extract.maps: wanted extract.layers=pooled, the mean of the last map, found {'+'.join(settings.extract.layers)}; "
            "leave one of them out"
        )
    if not isinstance(backbone, MappedBackbone):
        raise ConfigError(
            "extract.maps: wanted a backbone whose feature is the mean of its last map, a resnet or efficientnet-lite0, found "
            f"{settings.backbone.full_name}; set extract.maps=false"
        )
    parameter = next(backbone.parameters())
    training = backbone.training
    with torch.inference_mode():
        size = settings.data.image_size
        height, width = backbone.eval().map(torch.zeros(1, 3, size, size, device=parameter.device)).shape[2:]
    backbone.train(training)
    return int(height), int(width)
