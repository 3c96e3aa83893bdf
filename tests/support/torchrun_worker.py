"""What two processes of torchrun do in test_group: train, say what they got, fail together. Arguments: a folder, settings."""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from pipeline.backbones.resnet import BACKBONES
from pipeline.errors import TrainingError
from pipeline.machine.rank import rank
from pipeline.settings import Settings
from pipeline.stage1_backbone import train_backbone


class Plain(nn.Sequential):
    """A backbone without batch normalisation, on which any split of a batch has the same gradient."""

    width = 8

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )


def grouped():
    """A ResNet-20 whose normalisation looks at one row at a time."""
    network = BACKBONES["resnet20"]()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return network


OWN = {"plain": Plain, "grouped": grouped}
"""Backbones whose gradient does not depend on how a batch is split."""


def main():
    torch.set_num_threads(1)
    BACKBONES.update(OWN)
    folder, runs = Path(sys.argv[1]), json.loads(sys.argv[2])
    for name, settings in runs.items():
        try:
            outcome = train_backbone(Settings.model_validate(settings), folder / name).digest
        except TrainingError as error:
            outcome = str(error)
        (folder / f"{name}-{rank()}.txt").write_text(outcome)


if __name__ == "__main__":
    main()
