"""What a step of stage 1 moves the weights by: SGD with momentum, or Muon for the backbone's matrices and SGD for the others."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.backbones.classifier import ImageClassifier
from pipeline.settings.stage1 import Stage1
from pipeline.training.muon import Muon

MUON_MOMENTUM = 0.95


class Optimizer:
    """The optimisers of the settings, as one."""

    def __init__(self, model: ImageClassifier, stage1: Stage1) -> None:
        self.model = model
        is_muon = stage1.optimizer == "muon"
        matrices = matrices_of(model.backbone) if is_muon else []
        taken = set(matrices)
        body = [parameter for parameter in model.backbone.parameters() if parameter not in taken]
        groups: list[dict[str, Any]] = [
            {"params": body, "factor": stage1.body_factor},
            {"params": list(model.classifier.parameters()), "factor": 1.0},
        ]
        sgd = torch.optim.SGD(
            groups,
            lr=stage1.learning_rate,
            momentum=stage1.momentum,
            weight_decay=stage1.weight_decay,
            nesterov=is_muon,
        )
        self._all: list[torch.optim.Optimizer] = [sgd]
        if matrices:
            factor = stage1.body_factor * stage1.muon_rate / stage1.learning_rate
            own: list[dict[str, Any]] = [{"params": matrices, "factor": factor}]
            self._all.append(Muon(own, stage1.muon_rate, MUON_MOMENTUM, stage1.muon_decay))

    def step(self, rate: float, scaler: torch.amp.GradScaler) -> None:
        """Move the weights by their gradients; `rate` is that of SGD, the others' follow it in proportion."""
        for optimizer in self._all:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            scaler.step(optimizer)
        scaler.update()

    def momenta(self) -> dict[str, Tensor]:
        """The momentum of each parameter that a gradient has reached, by the parameter's name."""
        states = [state for optimizer in self._all for state in optimizer.state.items()]
        buffers = {parameter: state.get("momentum_buffer") for parameter, state in states}
        named = {name: buffers.get(parameter) for name, parameter in self.model.named_parameters()}
        return {name: buffer for name, buffer in named.items() if buffer is not None}

    def restore(self, momenta: Mapping[str, Tensor]) -> None:
        """Take back what `momenta` gave."""
        owners = {
            parameter: optimizer
            for optimizer in self._all
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for name, parameter in self.model.named_parameters():
            if name in momenta:
                buffer = torch.empty_like(parameter).copy_(momenta[name])
                owners[parameter].state[parameter]["momentum_buffer"] = buffer.detach()


def matrices_of(network: nn.Module) -> list[nn.Parameter]:
    """The weights of linear layers and of convolutions over all channels, which are what Muon is for."""
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    return [
        parameter for layer in layers for name, parameter in layer.named_parameters(recurse=False) if name == "weight"
    ]
