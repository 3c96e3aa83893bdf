"""How fast a backbone is on this machine, from a few batches of random pixels."""

import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from pipeline.backbones import build_for
from pipeline.machine.device import device_of
from pipeline.settings import Settings

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

    def step() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(pixels_B3SS).flatten(1), labels_B).backward()

    @torch.inference_mode()
    def forward() -> None:
        model.backbone(pixels_B3SS)

    model.train()
    train = batch / _seconds_each(step) if settings.stage1.epochs else 0.0
    model.eval()
    return train, batch / _seconds_each(forward), int(model.classifier.in_features)


def _seconds_each(work: Any) -> float:
    """Seconds of the quickest of several calls. The first calls warm up, and other processes can only slow a call down."""
    times = []
    for _ in _while_short():
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return max(min(times), 1e-9)


def _while_short() -> Iterator[int]:
    started = time.perf_counter()
    for number in range(PROBED):
        if number >= 2 and time.perf_counter() - started > PROBE_SECONDS:
            return
        yield number
