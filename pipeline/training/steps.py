"""Epochs of stage-1 training. What an epoch draws depends on seed and epoch alone, so resuming needs no generator's state."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.inference import reestimate
from pipeline.errors import ConfigError, TrainingError
from pipeline.images.dataset import Split
from pipeline.images.transforms.recipe import Recipe, normalise
from pipeline.machine import group
from pipeline.machine.device import autocast, on_this_machine
from pipeline.machine.rank import rank, world
from pipeline.progress import Track
from pipeline.rng import derive
from pipeline.settings import Settings
from pipeline.training.averaging import Average
from pipeline.training.batches import Batch, Micro, Part, batches, part, with_reversed
from pipeline.training.mixing import Mix
from pipeline.training.objective import Objective
from pipeline.training.optimizer import Optimizer
from pipeline.training.sam import climbed
from pipeline.training.schedule import learning_rate

CHECK_EVERY = 25
"""Steps after which the losses are looked at: each look waits for the accelerator."""


@dataclass(frozen=True)
class Done:
    """How far an epoch (0-based) has come: `step` of its `steps` steps, over `images` images whose losses sum to `loss_sum`."""

    epoch: int
    step: int = 0
    steps: int = 0
    images: int = 0
    loss_sum: float = 0.0

    @property
    def loss(self) -> float:
        """The mean loss of the images so far."""
        return self.loss_sum / max(self.images, 1)

    @property
    def whole(self) -> bool:
        """Whether the epoch is done to its end."""
        return 0 < self.steps == self.step


class Training:
    """A model, its optimiser and the split it learns from; under torchrun, one process's share of both."""

    def __init__(self, model: ImageClassifier, split: Split, settings: Settings) -> None:
        settings = on_this_machine(settings)
        self.stage1 = settings.stage1
        self.device = next(model.parameters()).device
        if self.stage1.sync_batchnorm:
            model = _synchronised(model, self.device)
        if self.stage1.channels_last:
            model.to(memory_format=torch.channels_last)
        self.model = model
        self.split = split
        self.settings = settings
        self._together = _distributed(model, self.device) if world() > 1 else None
        forward: nn.Module = self._together or model
        self._forward: nn.Module = torch.compile(forward) if self.stage1.compile else forward  # type: ignore[assignment]
        self._optimizer = Optimizer(model, self.stage1)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.stage1.amp == "fp16")
        self._labels_N = torch.from_numpy(split.labels_N)
        counts_C = torch.bincount(self._labels_N, minlength=model.classes)
        self._objective = Objective(settings, counts_C.to(self.device))
        self._average = Average(model, self.stage1)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.stage1.epochs * len(self._plan(0))

    def epoch(self, start: Done, progress: Track) -> Iterator[Done]:
        """Train on from `start` to its epoch's end; at each look at the loss, what is done by then.

        Raises TrainingError for a loss that is not finite, in every process alike.
        """
        self._forward.train()
        seed, epoch = self.settings.seed, start.epoch
        plan = self._plan(epoch)
        if self._objective.bilateral:
            plan = with_reversed(plan, self._labels_N, seed, epoch)
        parts = [part(batch, rank(), world(), self.stage1.accumulate) for batch in plan[start.step :]]
        rows, repeats = [own.rows_Q for own in parts], [own.repeats_Q for own in parts]
        recipe = Recipe.of(self.settings)
        images = self.split.images.batches(rows, recipe, derive(seed, "epoch", epoch), repeats)
        done, losses = Done(epoch, start.step, len(plan), start.images, start.loss_sum), []
        for step, (own, pixels_Q3SS) in enumerate(zip(parts, images, strict=True), start.step):
            rate = learning_rate(self.stage1, epoch * len(plan) + step, len(plan))
            losses.append(self._step(own, pixels_Q3SS, rate, epoch, plan[step]))
            progress.advance(len(plan[step].rows_B))
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == len(plan):
                sizes = [len(batch.rows_B) for batch in plan[done.step : step + 1]]
                done, losses = self._look(done, group.total(torch.stack(losses).double()).cpu(), sizes), []
                if done.whole:
                    self._average.after_epoch(epoch)
                yield done

    def reaches(self, done: Done) -> bool:
        """Whether an epoch's work, as planned, passes through `done`."""
        if done == Done(done.epoch):
            return 0 <= done.epoch <= self.stage1.epochs
        if not 0 <= done.epoch < self.stage1.epochs:
            return False
        sizes = [len(batch.rows_B) for batch in self._plan(done.epoch)]
        return 0 < done.step < done.steps == len(sizes) and done.images == sum(sizes[: done.step])

    def finish(self) -> None:
        """Give the model the weights that are kept: the average's, where the settings ask for one."""
        if self._average.put_into_model():
            reestimate(self.model, self.split, self.settings, "instance")

    def state(self) -> dict[str, Tensor]:
        """The model's tensors as `model.*`, the momentum as `momentum.*`, averaged weights as `average.*`."""
        tensors = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        momenta = {f"momentum.{name}": momentum for name, momentum in self._optimizer.momenta().items()}
        return tensors | momenta | self._average.state()

    def scale(self) -> dict[str, float]:
        """The state of fp16's loss scale; empty otherwise."""
        return self._scaler.state_dict()

    def expected(self, done: Done) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors as `state` gives them at `done`, and the names of those that may lack: momentum no gradient has reached."""
        model = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        momentum = {f"momentum.{name}": parameter for name, parameter in self.model.named_parameters()}
        return model | momentum | self._average.expected(done.epoch, done.step > 0), list(momentum)

    def restore(self, tensors: Mapping[str, Tensor], scale: Mapping[str, float]) -> None:
        """Take back what `state`, whose names and shapes are those `expected`, and `scale` gave. Raises ValueError."""
        self._average.restore(tensors)
        self.model.load_state_dict(_below("model.", tensors))
        self._optimizer.restore(_below("momentum.", tensors))
        if scale:
            self._scaler.load_state_dict(dict(scale))

    def _plan(self, epoch: int) -> list[Batch]:
        return batches(len(self.split), self.stage1, self.settings.seed, epoch)

    def _step(self, own: Part, pixels_Q3SS: Tensor, rate: float, epoch: int, batch: Batch) -> Tensor:
        """Make one step of the optimiser. Returns what this process's rows add to the mean loss of the global batch."""
        data = self.settings.data
        inputs_Q3SS = normalise(pixels_Q3SS.to(self.device, non_blocking=True), data.mean, data.std)
        if not self.stage1.channels_last:
            inputs_Q3SS = inputs_Q3SS.contiguous()
        labels_Q = self._labels_N[own.rows_Q].to(self.device)
        self.model.zero_grad(set_to_none=True)
        loss = self._gradients(own, inputs_Q3SS, labels_Q, epoch, batch)
        if self.stage1.sam_rho:
            with climbed(self.model, self.stage1.sam_rho):
                self._gradients(own, inputs_Q3SS, labels_Q, epoch, batch)
        self._optimizer.at_rate(rate)
        self._scaler.step(self._optimizer)  # type: ignore[arg-type]  # which wants its groups and its step alone
        self._scaler.update()
        self._average.after_step()
        return loss

    def _gradients(self, own: Part, inputs_Q3SS: Tensor, labels_Q: Tensor, epoch: int, batch: Batch) -> Tensor:
        """Add up the gradient of this process's rows, a micro-batch at a time. Returns what they add to the mean loss."""
        loss = torch.zeros((), device=self.device)
        for number, micro in enumerate(own.micros, 1):
            with self._summed_at(number == len(own.micros)):
                loss += self._backward(inputs_Q3SS, labels_Q, micro, epoch, batch)
        return loss

    def _backward(self, inputs_Q3SS: Tensor, labels_Q: Tensor, micro: Micro, epoch: int, batch: Batch) -> Tensor:
        inputs_M3SS, labels_M = inputs_Q3SS[micro.start : micro.stop], labels_Q[micro.start : micro.stop]
        partner_M = micro.partner_M.to(self.device)
        mix = Mix(inputs_Q3SS[partner_M], labels_Q[partner_M], batch.share, batch.centre)
        try:
            with autocast(self.stage1.amp, self.device):
                loss = self._objective(self._forward, inputs_M3SS, labels_M, epoch, mix)
        except ValueError as error:
            # Batch normalisation wants two values a channel; a larger map has them in one image, a map of one pixel has not.
            if micro.stop - micro.start > 1:
                raise
            raise TrainingError(
                f"stage 1: a batch of one image cannot be trained on ({_first_line(error)}); wanted two images or more: raise "
                "stage1.batch_size, or train on more images"
            ) from None
        # DistributedDataParallel takes the mean over processes of what is to be their sum.
        self._scaler.scale(loss * (micro.weight * world())).backward()
        return loss.detach() * micro.weight

    def _summed_at(self, last: bool) -> AbstractContextManager[None]:
        """Gradients are summed over processes once a step, with its last micro-batch."""
        return nullcontext() if last or self._together is None else self._together.no_sync()

    def _look(self, done: Done, losses: Tensor, sizes: list[int]) -> Done:
        for step, loss in enumerate(losses.tolist(), done.step):
            if not torch.isfinite(losses[step - done.step]):
                rate = learning_rate(self.stage1, done.epoch * done.steps + step, done.steps)
                raise TrainingError(
                    f"stage 1: loss {loss} in epoch {done.epoch + 1}, step {step + 1} of {done.steps}, at learning rate "
                    f"{rate:.4g}; lower stage1.learning_rate, lengthen stage1.warmup_epochs, or set stage1.amp=off"
                    + ("; Muon's rate is stage1.muon_rate" if self.stage1.optimizer == "muon" else "")
                )
        loss_sum = done.loss_sum + float((losses * torch.tensor(sizes, dtype=torch.float64)).sum())
        return Done(done.epoch, done.step + len(sizes), done.steps, done.images + sum(sizes), loss_sum)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of the name."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:120]


def _distributed(model: ImageClassifier, device: torch.device) -> DistributedDataParallel:
    """The model with gradients summed over processes; batch normalisation's statistics are each one's own, the first's kept."""
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def _synchronised(model: ImageClassifier, device: torch.device) -> ImageClassifier:
    if device.type != "cuda":
        raise ConfigError(
            f"stage1.sync_batchnorm: wanted CUDA, where PyTorch has it, found device {device}; set stage1.sync_batchnorm=false"
        )
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)
