"""How fast a backbone is on this machine, from a few batches of random pixels."""

import torch
import torch.nn.functional as F

from pipeline.backbones import build_for
from pipeline.machine.device import device_of
from pipeline.machine.timing import seconds_each
from pipeline.settings import Settings
from pipeline.training.optimizer import Optimizer

PROBED = 20
"""Batches of a probe, at most."""
PROBE_SECONDS = 6.0
"""Seconds after which a probe ends. It always runs at least two batches."""


def probed(settings: Settings, classes: int) -> tuple[float, float, int]:
    """Images a second in training and in forward passes, and the width of a feature, measured on random pixels."""
    device = device_of(settings.stage1.device)
    model = build_for(settings, classes).to(device)
    size = settings.data.image_size
    batch = min(settings.stage1.batch_size, 128)
    pixels_B3SS = torch.randn(batch, 3, size, size, device=device)
    labels_B = torch.zeros(batch, dtype=torch.long, device=device)

    optimizer = Optimizer(model, settings.stage1)
    optimizer.at_rate(0.0)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(pixels_B3SS).flatten(1), labels_B).backward()
        optimizer.step()

    @torch.inference_mode()
    def forward() -> None:
        model.backbone(pixels_B3SS)

    model.train()
    train = batch / seconds_each(step, PROBED, PROBE_SECONDS) if settings.stage1.epochs else 0.0
    model.eval()
    return train, batch / seconds_each(forward, PROBED, PROBE_SECONDS), int(model.classifier.in_features)
