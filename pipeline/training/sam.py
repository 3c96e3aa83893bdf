"""Sharpness-aware minimisation (Foret et al., 2021)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def climbed(model: nn.Module, rho: float) -> Iterator[None]:
    """A context in which the weights are w + rho g / |g| (Eq. 2) and gradients start empty.

    After it, the weights are w again, to the bit, and keep the gradients that were added up within.

    The gradient g is what `.grad` holds on entering; a loss scale does not change its direction. Running statistics stand
    still within: they are of w.
    """
    learning = [parameter for parameter in model.parameters() if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in learning]
    momenta = {module: module.momentum for module in model.modules() if isinstance(module, _BatchNorm)}
    with torch.no_grad():
        gradients = [parameter.grad for parameter in learning if parameter.grad is not None]
        norm = torch.stack([gradient.float().norm() for gradient in gradients]).norm()
        for parameter, gradient in zip(learning, gradients, strict=True):
            parameter.add_(gradient * (rho / (norm + 1e-12)))
            parameter.grad = None
    for module in momenta:
        module.momentum = 0.0
    try:
        yield
    finally:
        for module, momentum in momenta.items():
            module.momentum = momentum
        with torch.no_grad():
            for parameter, kept in zip(learning, before, strict=True):
                parameter.copy_(kept)
