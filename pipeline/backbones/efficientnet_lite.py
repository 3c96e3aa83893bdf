"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le, 2019) without squeeze-and-excitation, with ReLU6 in place of swish."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.backbone import MappedBackbone

STAGES = (
    (1, 16, 3, 1, 1),
    (6, 24, 3, 2, 2),
    (6, 40, 5, 2, 2),
    (6, 80, 3, 2, 3),
    (6, 112, 5, 1, 3),
    (6, 192, 5, 2, 4),
    (6, 320, 3, 1, 1),
)
"""Expansion, channels, kernel, stride of the first block, and number of blocks (Tan and Le, 2019, Table 1)."""
BN_EPSILON = 1e-3
"""Of batch normalisation, as in TensorFlow, where the weights were trained."""
BN_MOMENTUM = 0.01


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow pads it: to ceil(S / stride) pixels, an odd pixel at the right and at the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        vertical, horizontal = (
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(x.shape[2:], self.stride, self.kernel_size, strict=True)
        )
        if vertical or horizontal:
            left, top = horizontal // 2, vertical // 2
            x = F.pad(x, (left, horizontal - left, top, vertical - top))
        return super().forward(x)


def _convolution(channels_in: int, channels: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv(channels_in, channels, kernel, stride, groups=groups, bias=False)


def _unit(
    channels_in: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation and, where `active`, ReLU6."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv"] = _convolution(channels_in, channels, kernel, stride, groups)
    layers["norm"] = nn.BatchNorm2d(channels, BN_EPSILON, BN_MOMENTUM)
    if active:
        layers["act"] = nn.ReLU6(inplace=True)
    return nn.Sequential(layers)


class Block(nn.Module):
    """An inverted bottleneck: widen, filter each channel by itself, narrow; added to the input where shapes allow it."""

    def __init__(self, channels_in: int, channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.expand = _unit(channels_in, inner) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(inner, inner, kernel, stride, groups=inner)
        self.project = _unit(inner, channels, active=False)
        self.adds = stride == 1 and channels_in == channels

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.depthwise(self.expand(x)))
        return out + x if self.adds else out


class EfficientNetLite0(MappedBackbone):
    """(B, 3, S, S) -> (B, 1280), the mean over the places of the last feature map; published at S = 224."""

    width = 1280

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(3, 32, kernel=3, stride=2)
        blocks, channels_in = [], 32
        for expansion, channels, kernel, stride, repeats in STAGES:
            for number in range(repeats):
                blocks.append(Block(channels_in, channels, expansion, kernel, 1 if number else stride))
                channels_in = channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _unit(channels_in, self.width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, 1280, S / 32, S / 32)."""
        return self.head(self.blocks(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean(dim=(2, 3))
