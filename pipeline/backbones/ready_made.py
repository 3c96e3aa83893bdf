"""Backbones that are taken as they are: timm's, by name, and weights from torchvision or a file."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models

from pipeline.artefacts import tensors
from pipeline.backbones.backbone import Backbone
from pipeline.errors import ConfigError, DataError

TIMM = "timm:"


class Given(Backbone):
    """A backbone around a module from elsewhere that gives features (B, D)."""

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module = module
        self.width = width
        # A module without tensors has no device of its own.
        self.register_buffer("where", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)


def timm_backbone(name: str, pretrained: bool) -> Given:
    """`timm:NAME`, pooled features without a classifier; weights from timm's own site where `pretrained`.

    Raises ConfigError where timm is missing or has no such model, DataError where its weights cannot be had.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(
            f"backbone.name {name}: wants the package timm, which is not installed; pip install timm"
        ) from None
    model = name.removeprefix(TIMM)
    # A plain name of timm's registry: its hf-hub: and local-dir: forms read settings from elsewhere.
    if not timm.is_model(model):
        raise ConfigError(f"backbone.name: timm has no model {model!r}; timm.list_models() lists them")
    try:
        network: Any = timm.create_model(model, pretrained=pretrained, num_classes=0)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"backbone.weights of {name}: cannot be had ({str(error).splitlines()[0]}); look at the network, or train from "
            "random weights with --set backbone.weights=''"
        ) from None
    return Given(network, int(network.num_features))


def load_weights(backbone: nn.Module, name: str, weights: str) -> None:
    if weights.endswith(".safetensors"):
        state = {key.removeprefix("backbone."): tensor for key, tensor in tensors.load(Path(weights))[0].items()}
    else:
        state = _torchvision_weights(name, weights)
    state = {key: tensor for key, tensor in state.items() if not key.startswith(("fc.", "classifier."))}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"backbone.weights {weights}: do not fit {name} ({reason}); choose the backbone they are of"
        ) from None


def _torchvision_weights(name: str, weights: str) -> dict[str, Tensor]:
    has_weights = name in models.list_models()
    entries = [entry.name for entry in models.get_model_weights(name)] if has_weights else []
    if weights not in entries:
        raise ConfigError(
            f"backbone.weights: wanted '', a .safetensors file or, for {name}, one of [{', '.join(entries)}], found {weights!r}"
        )
    entry = models.get_model_weights(name)[weights]
    try:
        # weights_only: an unpickler that builds tensors and nothing else.
        return entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise DataError(
            f"backbone.weights {weights} of {name}: cannot be had from {entry.url} ({error}); put the file into {folder}, "
            "or train from random weights with --set backbone.weights=''"
        ) from None
