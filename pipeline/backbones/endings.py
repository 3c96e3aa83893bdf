"""Backbones with another last block: two branches side by side (BBN, Zhou et al., 2020), or one more block (MiSLAS).

In BBN one branch learns from rows sampled uniformly, the other from rows sampled by 1 / class size.
"""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from pipeline.backbones.backbone import Backbone, MappedBackbone
from pipeline.backbones.resnet import BACKBONES, CifarBlock, CifarResNet, ImagenetResNet
from pipeline.errors import ConfigError


class Bilateral(MappedBackbone):
    """Shared blocks, then a branch each: (B, 3, S, S) -> (B, 2D), D the width of the network it is made from."""

    def __init__(self, network: MappedBackbone, other: MappedBackbone) -> None:
        """Takes all of `network` but its last block, that block, and the last block of `other`, drawn apart."""
        super().__init__()
        last, blocks = _last_stage(network)
        self.conventional = blocks[-1]
        self.reversed = _last_stage(other)[1][-1]
        setattr(network, last, blocks[:-1])
        self.shared = network
        self.width = 2 * network.width

    def map(self, x: Tensor) -> Tensor:
        """The last maps of both branches for the same images, (B, 2D, H, W)."""
        x = self.shared.map(x)
        return torch.cat([self.conventional(x), self.reversed(x)], dim=1)

    def forward(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        """Without `share`, both branches' features of the same images: l = 0.5, times 2.

        With it, 2B images, conventional then reversed: 2 l f_c beside 2 (1 - l) f_r, (B, 2D).
        """
        x = self.shared.map(x)
        first, second = (x, x) if share is None else x.chunk(2)
        conventional_BD, reversed_BD = self.conventional(first).mean((2, 3)), self.reversed(second).mean((2, 3))
        if share is not None:
            conventional_BD, reversed_BD = 2 * share * conventional_BD, 2 * (1 - share) * reversed_BD
        return torch.cat([conventional_BD, reversed_BD], dim=1)


def _last_stage(network: nn.Module) -> tuple[str, nn.Sequential]:
    name = "layer4" if hasattr(network, "layer4") else "layer3"
    return name, getattr(network, name)


def with_ending(network: Backbone, name: str, ending: str) -> Backbone:
    """The network with another last block. Raises ConfigError for one that is not of `BACKBONES`."""
    if not isinstance(network, (CifarResNet, ImagenetResNet)):
        raise ConfigError(
            f"backbone.ending={ending}: is for {', '.join(BACKBONES)}, found {name}; set backbone.ending=plain"
        )
    if ending == "bbn":
        return Bilateral(network, BACKBONES[name]())
    if isinstance(network, CifarResNet):
        return NewBlock(network, CifarBlock(network.width, network.width, 1))
    block = Bottleneck if network.width == 2048 else BasicBlock
    return NewBlock(network, block(network.width, 512))


class NewBlock(MappedBackbone):
    """The network's feature map, frozen with its statistics, then one block that learns: (B, 3, S, S) -> (B, D)."""

    def __init__(self, network: MappedBackbone, block: nn.Module) -> None:
        super().__init__()
        network.requires_grad_(False)
        self.frozen = network
        self.block = block
        self.width = network.width

    def train(self, mode: bool = True) -> "NewBlock":
        super().train(mode)
        self.frozen.eval()
        return self

    def map(self, x: Tensor) -> Tensor:
        """The new block's map, (B, D, H, W)."""
        with torch.no_grad():
            x = self.frozen.map(x)
        return self.block(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean(dim=(2, 3))
