"""Weights averaged while they train: exponentially over steps (EMA), or evenly over the last epochs (SWA)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from pipeline.settings.stage1 import Stage1

PREFIX = "average."


class Average:
    """A running average of a model's parameters and float buffers; other buffers are the model's own."""

    def __init__(self, model: nn.Module, stage1: Stage1) -> None:
        self.model = model
        self.kind = stage1.averaging
        self.decay = stage1.ema_decay
        self.start = round(stage1.swa_start * stage1.epochs)
        self._count = 0
        self._tensors: dict[str, Tensor] = {}

    def after_step(self) -> None:
        """EMA: w~ = d w~ + (1 - d) w, with d = min(decay, (1 + t) / (10 + t)) so that a short run forgets its start."""
        if self.kind == "ema":
            self._take(1 - min(self.decay, (1 + self._count) / (10 + self._count)))

    def after_epoch(self, epoch: int) -> None:
        """SWA: the mean over the ends of 0-based epochs from `swa_start` on (Izmailov et al., 2018, Alg. 1)."""
        if self.kind == "swa" and epoch >= self.start:
            self._take(1 / (self._count + 1))

    @torch.no_grad()
    def _take(self, weight: float) -> None:
        current = {name: tensor for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()}
        if self._count == 0:
            self._tensors = {name: tensor.clone() for name, tensor in current.items()}
        else:
            for name, tensor in current.items():
                self._tensors[name].lerp_(tensor, weight)
        self._count += 1

    def state(self) -> dict[str, Tensor]:
        """The average as tensors `average.*`, and how many weights it holds. Empty before the first."""
        if not self._count:
            return {}
        count = {f"{PREFIX}count": torch.tensor(self._count)}
        return count | {f"{PREFIX}of.{name}": tensor for name, tensor in self._tensors.items()}

    def expected(self, epochs: int, within: bool) -> dict[str, Tensor]:
        """Names and shapes of what `state` gives after so many whole epochs, and perhaps steps of the next one."""
        if not (self.kind == "ema" and (epochs or within)) and not (self.kind == "swa" and epochs > self.start):
            return {}
        own = {name: tensor for name, tensor in self.model.state_dict().items() if tensor.is_floating_point()}
        return {f"{PREFIX}count": torch.tensor(0)} | {f"{PREFIX}of.{name}": tensor for name, tensor in own.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave. Raises ValueError where it says that it holds no weights."""
        if f"{PREFIX}count" not in tensors:
            return
        count = int(tensors[f"{PREFIX}count"])
        if count < 1:
            raise ValueError(f"{PREFIX}count: wanted 1 or more, found {count}")
        self._count = count
        own = self.model.state_dict()
        prefix = f"{PREFIX}of."
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                target = own[name.removeprefix(prefix)]
                self._tensors[name.removeprefix(prefix)] = torch.empty_like(target).copy_(tensor)

    def put_into_model(self) -> bool:
        """Give the model the average, if there is one; whether its batch-norm statistics are to be estimated again.

        Averaged statistics fit EMA's slow average; SWA's weights have never seen a batch.
        """
        if not self._count:
            return False
        self.model.load_state_dict(self._tensors, strict=False)
        return self.kind == "swa"
