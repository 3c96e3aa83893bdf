"""Features of other layers than the last: one, or several side by side, each a mean, a maximum or the class token."""

from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from pipeline.backbones.backbone import Backbone
from pipeline.errors import ConfigError

LAYER = "pooled"
"""The feature's name in a cache's identity: the globally averaged last feature map, before the classifier."""
POOLINGS = ("mean", "max", "first")
"""Over the places of a map (B, D, H, W) or the tokens (B, N, D): their mean, their maximum, or the first token alone."""


class Layers(Backbone):
    """Several layers of a network side by side: (B, 3, S, S) -> (B, D1 + D2 + …), in the order of their names."""

    def __init__(self, network: Backbone, layers: Sequence[str], size: int) -> None:
        """`layers`: `pooled`, or the path of a module, such as `layer2`, perhaps with `:mean`, `:max` or `:first` behind it.

        `size` is the side of the images, in pixels, that the widths are tried with. Raises ConfigError for a module or a
        pooling that there is not, or an output that cannot be pooled.
        """
        super().__init__()
        self.network = network
        self._layers = [_parts(network, layer) for layer in layers]
        self._features: dict[tuple[str, str], Tensor] = {}
        for path, how in dict.fromkeys(self._layers):
            if path != LAYER:
                network.get_submodule(path).register_forward_hook(self._keep(path, how))
        device = next(chain(network.parameters(), network.buffers())).device
        training = network.training
        with torch.inference_mode():
            self.width = self.eval()(torch.zeros(1, 3, size, size, device=device)).shape[1]
        self.train(training)

    def forward(self, x: Tensor) -> Tensor:
        pooled_BD = self.network(x)
        parts = [pooled_BD if path == LAYER else self._features[path, how] for path, how in self._layers]
        self._features.clear()
        return torch.cat(parts, dim=1)

    def _keep(self, path: str, how: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            # Pooled at once: what follows may change the map in place.
            self._features[path, how] = _pooled(path, output, how)

        return hook


def with_layers(network: Backbone, layers: Sequence[str], size: int) -> Backbone:
    """The network itself where only its last pooled feature is wanted, else `Layers` of it."""
    return network if tuple(layers) == (LAYER,) else Layers(network, layers, size)


def layer_name(layers: Sequence[str]) -> str:
    """What an identity calls the feature: `pooled`, or `layer2+layer3:max+pooled`."""
    return "+".join(layers)


def _parts(network: nn.Module, layer: str) -> tuple[str, str]:
    """A module's path and how it is pooled."""
    path, _, how = layer.partition(":")
    how = how or "mean"
    if how not in POOLINGS:
        raise ConfigError(f"extract.layers: wanted {', '.join(POOLINGS)} behind the colon, found {layer[:80]!r}")
    # A ready-made network lies in one more module, which is not named.
    inner = f"module.{path}" if hasattr(network, "module") else path
    names = dict(network.named_modules())
    if path == LAYER and how == "mean":
        return LAYER, how
    if not path or inner not in names:
        known = [name.removeprefix("module.") for name in names if name.removeprefix("module.").count(".") == 0]
        listed = ", ".join(name for name in known if name not in ("", "module"))
        raise ConfigError(f"extract.layers: wanted {LAYER} or a module, such as {listed}, found {layer[:80]!r}")
    return inner, how


def _pooled(path: str, output: Tensor, how: str) -> Tensor:
    """(B, D, H, W) or (B, N, D) -> (B, D); (B, D) as it is."""
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"extract.layers: wanted a map or tokens of {path.removeprefix('module.')}, found {shape}")
    if output.ndim == 2:
        return output
    tokens_BND = output.flatten(2).transpose(1, 2) if output.ndim == 4 else output
    if how == "first":
        return tokens_BND[:, 0]
    return tokens_BND.mean(dim=1) if how == "mean" else tokens_BND.amax(dim=1)
