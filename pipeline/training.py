"""Epochs of stage-1 training. What an epoch draws depends on seed and epoch alone, so resuming needs no generator's state."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones import Classifier
from pipeline.datasets import Split
from pipeline.errors import TrainingError
from pipeline.hardware import autocast
from pipeline.normalisation import normalise
from pipeline.progress import Track
from pipeline.rng import derive, generator
from pipeline.schedules import learning_rate
from pipeline.settings import Settings

CHECK_EVERY = 25
"""Steps between looks at the loss: each look waits for the accelerator."""


class Training:
    """A model, its optimiser and the split it learns from."""

    def __init__(self, model: Classifier, split: Split, settings: Settings) -> None:
        self.model = model
        self.split = split
        self.settings = settings
        self.stage1 = settings.stage1
        self.device = next(model.parameters()).device
        if self.stage1.channels_last:
            model.to(memory_format=torch.channels_last)
        self._forward: nn.Module = torch.compile(model) if self.stage1.compile else model  # type: ignore[assignment]
        self._optimizer = torch.optim.SGD(
            model.parameters(),
            lr=self.stage1.learning_rate,
            momentum=self.stage1.momentum,
            weight_decay=self.stage1.weight_decay,
        )
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.stage1.amp == "fp16")
        self._labels_N = torch.from_numpy(split.labels_N)

    def epoch(self, epoch: int, progress: Track) -> float:
        """Train one epoch (0-based); the mean loss of its images. Raises TrainingError for a loss that is not finite."""
        self._forward.train()
        seed = self.settings.seed
        rows = self._batches(epoch)
        images = self.split.images.batches(rows, self.stage1.augmentation, derive(seed, "epoch", epoch))
        mixing = np.random.default_rng(derive(seed, "mixup", epoch))
        partners = generator(seed, "partners", epoch)
        losses: list[Tensor] = []
        for step, (rows_B, pixels_B3SS) in enumerate(zip(rows, images, strict=True)):
            rate = learning_rate(self.stage1, epoch * len(rows) + step, len(rows))
            share = float(mixing.beta(self.stage1.mixup_alpha, self.stage1.mixup_alpha))
            partner_B = torch.randperm(len(rows_B), generator=partners)
            losses.append(self._step(pixels_B3SS, self._labels_N[rows_B], rate, share, partner_B))
            progress.advance(len(rows_B))
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == len(rows):
                self._check(losses, epoch, len(rows))
        sizes = torch.tensor([len(rows_B) for rows_B in rows], dtype=torch.float64)
        return float((torch.stack(losses).double().cpu() * sizes).sum() / sizes.sum())

    def state(self) -> dict[str, Tensor]:
        """The model's tensors as `model.*`, the momentum as `momentum.*`."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            buffer = self._optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:
                tensors[f"momentum.{name}"] = buffer
        return tensors

    def scale(self) -> dict[str, float]:
        """The state of fp16's loss scale; empty otherwise."""
        return self._scaler.state_dict()

    def restore(self, tensors: Mapping[str, Tensor], scale: Mapping[str, float]) -> None:
        """Take back what `state` and `scale` gave."""
        model = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
        self.model.load_state_dict(model)
        for name, parameter in self.model.named_parameters():
            if f"momentum.{name}" in tensors:
                buffer = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                self._optimizer.state[parameter]["momentum_buffer"] = buffer.detach()
        if scale:
            self._scaler.load_state_dict(dict(scale))

    def _batches(self, epoch: int) -> list[Tensor]:
        order_N = torch.randperm(len(self.split), generator=generator(self.settings.seed, "order", epoch))
        batches = list(order_N.split(self.stage1.batch_size))
        # Batch normalisation has no variance in a single row; that row's turn comes in another epoch.
        return batches[:-1] if len(batches) > 1 and len(batches[-1]) == 1 else batches

    def _step(self, pixels_B3SS: Tensor, labels_B: Tensor, rate: float, share: float, partner_B: Tensor) -> Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        data = self.settings.data
        inputs_B3SS = normalise(pixels_B3SS.to(self.device, non_blocking=True), data.mean, data.std)
        if not self.stage1.channels_last:
            inputs_B3SS = inputs_B3SS.contiguous()
        labels_B, partner_B = labels_B.to(self.device), partner_B.to(self.device)
        self._optimizer.zero_grad(set_to_none=True)
        with autocast(self.stage1.amp, self.device):
            if self.stage1.mixing == "mixup":
                loss = mixup_loss(self._forward, inputs_B3SS, labels_B, share, partner_B)
            else:
                loss = F.cross_entropy(self._forward(inputs_B3SS), labels_B)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        return loss.detach()

    def _check(self, losses: list[Tensor], epoch: int, steps: int) -> None:
        recent = torch.stack(losses[-CHECK_EVERY:]).cpu()
        if bool(torch.isfinite(recent).all()):
            return
        first = len(losses) - len(recent) + int((~torch.isfinite(recent)).int().argmax())
        rate = learning_rate(self.stage1, epoch * steps + first, steps)
        raise TrainingError(
            f"stage 1: loss {float(losses[first])} in epoch {epoch + 1}, step {first + 1} of {steps}, at learning rate {rate:.4g}"
            "; lower stage1.learning_rate, lengthen stage1.warmup_epochs, or set stage1.amp=off"
        )


def mixup_loss(model: nn.Module, inputs_B3SS: Tensor, labels_B: Tensor, share: float, partner_B: Tensor) -> Tensor:
    """l CE(y) + (1 - l) CE(y') on l x + (1 - l) x', one l a batch (Zhang et al., 2018)."""
    logits_BC = model(inputs_B3SS.lerp(inputs_B3SS[partner_B], 1 - share))
    first, second = F.cross_entropy(logits_BC, labels_B), F.cross_entropy(logits_BC, labels_B[partner_B])
    return share * first + (1 - share) * second
