"""ResNets for 32 and for 224 pixels; BACKBONES."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from pipeline.backbones.backbone import MappedBackbone


class CifarBlock(nn.Module):
    """Two 3 x 3 convolutions; where the shape changes, option A: every second pixel, channels padded with zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class CifarResNet(MappedBackbone):
    """ResNet of depth 6n + 2 for 32 x 32 images, 16-32-64 channels (He et al., 2016, section 4.2): (B, 3, S, S) -> (B, 64)."""

    width = 64

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _layer(16, 16, blocks, 1)
        self.layer2 = _layer(16, 32, blocks, 2)
        self.layer3 = _layer(32, 64, blocks, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, 64, S / 4, S / 4)."""
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean(dim=(2, 3))


def _layer(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(CifarBlock(channels, channels, 1) for _ in range(blocks - 1)))


class ImagenetResNet(ResNet, MappedBackbone):
    """torchvision's ResNet without its classifier: (B, 3, S, S) -> (B, 512 or 2048)."""

    # torchvision has no types for these.
    conv1: nn.Module
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    avgpool: nn.Module

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: list[int]) -> None:
        super().__init__(block, layers)
        self.width = 512 * block.expansion
        self.fc: nn.Module = nn.Identity()

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, D, S / 32, S / 32)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.avgpool(self.map(x)), 1)


BACKBONES: dict[str, Callable[[], MappedBackbone]] = {
    "resnet20": partial(CifarResNet, 20),
    "resnet32": partial(CifarResNet, 32),
    "resnet44": partial(CifarResNet, 44),
    "resnet56": partial(CifarResNet, 56),
    "resnet10": partial(ImagenetResNet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": partial(ImagenetResNet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": partial(ImagenetResNet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": partial(ImagenetResNet, Bottleneck, [3, 4, 6, 3]),
    "resnet101": partial(ImagenetResNet, Bottleneck, [3, 4, 23, 3]),
    "resnet152": partial(ImagenetResNet, Bottleneck, [3, 8, 36, 3]),
}
"""20 to 56 are the CIFAR papers' (D = 64); the others torchvision's (D = 512 or 2048), of which 10 has no weights."""
