"""A frozen network with one new block behind it, as MiSLAS trains Places-LT (Zhong et al., 2021)."""

import torch
from torch import Tensor, nn


class NewBlock(nn.Module):
    """The network's feature map, frozen with its statistics, then one block that learns: (B, 3, S, S) -> (B, D)."""

    def __init__(self, network: nn.Module, block: nn.Module) -> None:
        super().__init__()
        self.frozen = network.requires_grad_(False)
        self.block = block
        self.width = int(network.width)  # type: ignore[arg-type]

    def train(self, mode: bool = True) -> "NewBlock":
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = self.frozen.map(x)  # type: ignore[operator]
        return self.block(x).mean(dim=(2, 3))
