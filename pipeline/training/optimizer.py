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
    """The optimisers of the settings, as one: a loss scale that overflows stops all of them."""

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
            nesterov=is_muon and stage1.momentum > 0,
        )
        self._all: list[torch.optim.Optimizer] = [sgd]
        if matrices:
            factor = stage1.body_factor * stage1.muon_rate / stage1.learning_rate
            own: list[dict[str, Any]] = [{"params": matrices, "factor": factor}]
            # The format that the network computes in: a run's key has it, and all processes share it.
            dtype = torch.bfloat16 if stage1.amp == "bf16" else torch.float32
            self._all.append(Muon(own, stage1.muon_rate, MUON_MOMENTUM, stage1.muon_decay, dtype))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All groups of parameters, as a gradient scaler wants them."""
        return [group for optimizer in self._all for group in optimizer.param_groups]

    def at_rate(self, rate: float) -> None:
        """Take `rate` as that of SGD from now on; the others' follow it in proportion."""
        for group in self.param_groups:
            group["lr"] = rate * group["factor"]

    def step(self) -> None:
        """Move the weights by their gradients."""
        for optimizer in self._all:
            optimizer.step()

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
    """The weights of linear layers and of convolutions over all channels, which are what Muon is for.

    Not those that a module keeps by itself, such as the joint projection of torch's MultiheadAttention.
    """
    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.groups == 1)
    ]
    weights = [layer.get_parameter("weight") for layer in layers]
    return list(dict.fromkeys(weights))  # layers may share one
