"""The base classes of backbones. Every backbone is a subclass of one of them."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """A module from images (B, 3, S, S) to features (B, D), with D as its `width`."""

    width: int


class MappedBackbone(Backbone):
    """A backbone whose feature is the mean over the places of its last feature map."""

    def map(self, x: Tensor) -> Tensor:
        """The last feature map: (B, 3, S, S) -> (B, D, H, W)."""
        raise NotImplementedError
