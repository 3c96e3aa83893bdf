"""Backbones that others have made: torchvision's, timm's and open_clip's by name, and weights from a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models

from pipeline.artefacts import tensors
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.resnet import BACKBONES
from pipeline.errors import ConfigError, DataError

TIMM = "timm:"
OPEN_CLIP = "open_clip:"
PRETRAINED = "pretrained"
"""The weights of a backbone that comes with one set of them."""
CLASSIFIERS = ("fc.", "classifier.", "head.", "heads.", "_fc.")
"""How the tensors of a classifier are named in the usual networks; a backbone has none."""
UNFIT = ("googlenet", "inception_v3")
"""torchvision's networks that give several outputs while they train."""
RANDOM = "or train from random weights with --set backbone.weights=''"


class Given(Backbone):
    """A backbone around a module from elsewhere that gives features (B, D)."""

    def __init__(self, module: nn.Module, width: int) -> None:
        super().__init__()
        self.module = module
        self.width = width
        # A module without tensors has no device of its own.
        self.register_buffer("where", torch.empty(0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, D). Raises DataError where the network takes no images of that size, as transformers may."""
        try:
            return self.module(x)
        except AssertionError as error:
            raise DataError(
                f"backbone: wants images of another size than {x.shape[-1]} x {x.shape[-2]} pixels ({_line(error)}); set "
                "data.image_size"
            ) from None


def package(name: str, backbone: str, distribution: str) -> ModuleType:
    """An optional package. Raises ConfigError, which says how to install it, where it is missing."""
    try:
        return __import__(name)
    except ImportError:
        raise ConfigError(
            f"backbone.name {backbone}: wants the package {name}, which is not installed; pip install {distribution}"
        ) from None


def timm_backbone(name: str, weights: str) -> Given:
    """`timm:NAME`, pooled features without a classifier; weights from timm's own site where they are "pretrained".

    Raises ConfigError where timm is missing or has no such model, DataError where its weights cannot be had.
    """
    timm: Any = package("timm", name, "timm")
    model = name.removeprefix(TIMM)
    # A plain name of timm's registry: its hf-hub: and local-dir: forms read settings from elsewhere.
    if not timm.is_model(model):
        raise ConfigError(f"backbone.name: timm has no model {model!r}; timm.list_models() lists them")
    if weights not in ("", PRETRAINED):
        raise ConfigError(
            f"backbone.weights: wanted '', a .safetensors file or, for {name}, {PRETRAINED}, found {weights!r}"
        )
    try:
        network: Any = timm.create_model(model, pretrained=bool(weights), num_classes=0)
    except Exception as error:  # a hub's client raises types of its own
        site = getattr(timm.get_pretrained_cfg(model), "hf_hub_id", None)
        if not site:
            raise DataError(f"backbone.weights of {name}: cannot be had ({_line(error)}); {RANDOM[3:]}") from None
        raise DataError(
            f"backbone.weights of {name}: cannot be had ({_line(error)}); download model.safetensors of "
            f"https://huggingface.co/{site} and give it with --set backbone.weights=FILE.safetensors, {RANDOM}"
        ) from None
    return Given(network, int(network.num_features))


def open_clip_backbone(name: str, tag: str) -> Given:
    """`open_clip:MODEL`, the image tower of a CLIP model, with the weights that open_clip knows by `tag`.

    Raises ConfigError where open_clip is missing or has no such model or tag, DataError where the weights cannot be had.
    """
    open_clip: Any = package("open_clip", name, "open_clip_torch")
    model = name.removeprefix(OPEN_CLIP)
    if model not in open_clip.list_models():
        raise ConfigError(f"backbone.name: open_clip has no model {model!r}; open_clip.list_models() lists them")
    configuration = open_clip.get_model_config(model)
    if tag:
        check_tag(open_clip, name, tag)
    try:
        with _without_warnings():  # that there are no weights, where those of a run follow
            network: Any = open_clip.create_model(model, pretrained=tag or None)
    except Exception as error:  # as above
        raise DataError(
            f"backbone.weights {tag} of {name}: cannot be had ({_line(error)}); run the command once where there is a network, "
            f"and copy ~/.cache/huggingface from there, {RANDOM}"
        ) from None
    return Given(network.visual, int(configuration["embed_dim"]))


@contextmanager
def _without_warnings() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def check_tag(open_clip: Any, name: str, tag: str) -> None:
    """Raise ConfigError where open_clip has no such weights, or they are of a network with another activation."""
    model = name.removeprefix(OPEN_CLIP)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if tag not in tags:
        raise ConfigError(
            f"backbone.weights: wanted '', a .safetensors file or, for {name}, one of [{', '.join(tags)}], found {tag!r}"
        )
    if not fits(open_clip, model, tag):
        raise ConfigError(
            f"backbone.weights {tag}: are of a network with another activation than {name}; use {name}-quickgelu"
        )


def fits(open_clip: Any, model: str, tag: str) -> bool:
    """Whether a model computes the activation that the weights were trained with; open_clip itself only warns."""
    wanted = bool(open_clip.get_pretrained_cfg(model, tag).get("quick_gelu", False))
    return bool(open_clip.get_model_config(model).get("quick_gelu", False)) == wanted


@cache
def torchvision_names() -> tuple[str, ...]:
    """torchvision's image classifiers that are no row of `BACKBONES` and can be one: squeezenet ends in no linear layer."""
    return tuple(
        name
        for name in models.list_models(module=models)
        if name not in BACKBONES and name not in UNFIT and not name.startswith("squeezenet")
    )


def torchvision_backbone(name: str, weights: str) -> Given:
    """A classifier of torchvision without its last linear layer, whose input is the feature."""
    module = models.get_model(name, weights=None)
    last, linear = [(path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
    module.set_submodule(last, nn.Identity())
    if weights:
        state = _torchvision_weights(name, weights)
        module.load_state_dict({key: tensor for key, tensor in state.items() if not key.startswith(f"{last}.")})
    return Given(module, linear.in_features)


def load_torchvision(backbone: nn.Module, name: str, weights: str) -> None:
    """Put torchvision's weights into a network of `BACKBONES`."""
    state = _torchvision_weights(name, weights)
    backbone.load_state_dict({key: tensor for key, tensor in state.items() if not key.startswith(CLASSIFIERS)})


def load_file(backbone: nn.Module, name: str, weights: str) -> None:
    """Put the weights of a safetensors file into the network: of a run of stage 1, or as the network's makers name them.

    Tensors of a classifier are left out. Raises DataError where the others do not fit.
    """
    state = {key.removeprefix("backbone."): tensor for key, tensor in tensors.load(Path(weights))[0].items()}
    wanted = backbone.state_dict()
    if isinstance(backbone, Given) and not any(key.startswith("module.") for key in state):
        wanted = {key.removeprefix("module."): tensor for key, tensor in wanted.items()}
        backbone = backbone.module
    state = {key: tensor for key, tensor in state.items() if key in wanted or not key.startswith(CLASSIFIERS)}
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise DataError(
            f"backbone.weights {weights}: do not fit {name} ({reason}); choose the backbone they are of"
        ) from None


def torchvision_entries(name: str) -> list[str]:
    """The weights that torchvision has for a network, the best last."""
    if name not in models.list_models():
        return []
    entries = models.get_model_weights(name)
    return sorted((entry.name for entry in entries), key=lambda entry: entry == entries.DEFAULT.name)


def torchvision_entry(name: str, weights: str) -> Any:
    """torchvision's entry for these weights. Raises ConfigError where there is none."""
    entries = torchvision_entries(name)
    if weights not in entries:
        ready = (
            f", a .safetensors file or, for {name}, one of [{', '.join(entries)}]"
            if entries
            else " or a .safetensors file"
        )
        raise ConfigError(f"backbone.weights: wanted ''{ready}, found {weights!r}")
    return models.get_model_weights(name)[weights]


def _torchvision_weights(name: str, weights: str) -> dict[str, Tensor]:
    entry = torchvision_entry(name, weights)
    try:
        # weights_only: an unpickler that builds tensors and nothing else.
        return entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise DataError(
            f"backbone.weights {weights} of {name}: cannot be had from {entry.url} ({error}); put the file into {folder}, "
            f"{RANDOM}"
        ) from None


def _line(error: Exception) -> str:
    """The first line of an error, at most 150 characters of it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:150]
