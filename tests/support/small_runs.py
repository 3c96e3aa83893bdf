"""A run that takes a second, all of stage 1 on a few dozen digits: its settings, its first step, and a stop within it."""

import pytest

from pipeline.backbones import build_for
from pipeline.images.dataset import load
from pipeline.progress import track
from pipeline.settings import Settings
from pipeline.stage1_backbone import train_backbone
from pipeline.training.steps import Done, Training


def small(seed=0, **stage1):
    """Digits at their own 8 x 8 pixels, a few dozen of them."""
    return Settings.model_validate(
        {
            "name": "small",
            "seed": seed,
            "data": {"image_size": 8, "workers": 0},
            "longtail": {"profile": "exponential", "n_max": 12, "imbalance_factor": 4, "many_above": 8, "few_below": 5},
            "backbone": {"name": "resnet20"},
            "stage1": {"epochs": 3, "batch_size": 16, "warmup_epochs": 1, "augmentation": "crop", **stage1},
        }
    )


def moved(settings):
    """By how much one epoch, a single step where a batch holds all 62 images, moves each parameter."""
    dataset = load(settings)
    model = build_for(settings, len(dataset.classes))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    training = Training(model, dataset.splits["train"], settings)
    with track(62, "step", "images") as progress:
        assert list(training.epoch(Done(0), progress))[-1].whole
    return {name: parameter.detach() - before[name] for name, parameter in model.named_parameters()}


def stopped_and_gone_on_with(settings, folder, monkeypatch):
    """The digest of the weights of a run that is interrupted in its sixth step and started again."""
    step, steps = Training._step, []

    def stopping(self, *arguments):
        steps.append(1)
        if len(steps) == 6:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(settings, folder)
    monkeypatch.setattr(Training, "_step", step)
    return train_backbone(settings, folder).digest
