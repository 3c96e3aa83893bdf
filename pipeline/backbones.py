"""Backbones by name: a module from images (B, 3, S, S) to features (B, D), with D as its `width`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from pipeline import checkpoint
from pipeline.bbn import Bilateral
from pipeline.cosine import CosineClassifier
from pipeline.errors import ConfigError, DataError
from pipeline.frozen import TIMM, timm_backbone
from pipeline.new_block import NewBlock
from pipeline.rng import derive
from pipeline.settings import Settings


class CifarBlock(nn.Module):
    """Two 3 x 3 convolutions; where the shape changes, option A: every second pixel, channels padded with zeros."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.padding:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for 32 x 32 images, 16-32-64 channels (He et al., 2016, section 4.2): (B, 3, S, S) -> (B, 64)."""

    width = 64

    def __init__(self, depth: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _layer(16, 16, blocks, 1)
        self.layer2 = _layer(16, 32, blocks, 2)
        self.layer3 = _layer(32, 64, blocks, 2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, 64, S / 4, S / 4)."""
        return self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))

    def forward(self, x: Tensor) -> Tensor:
        return self.map(x).mean(dim=(2, 3))


def _layer(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = CifarBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(CifarBlock(channels, channels, 1) for _ in range(blocks - 1)))


class ImagenetResNet(ResNet):
    """torchvision's ResNet without its classifier: (B, 3, S, S) -> (B, 512 or 2048)."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], layers: list[int]) -> None:
        super().__init__(block, layers)
        self.width = 512 * block.expansion
        self.fc: nn.Module = nn.Identity()

    def map(self, x: Tensor) -> Tensor:
        """The last feature map, (B, D, S / 32, S / 32)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.avgpool(self.map(x)), 1)


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "resnet20": partial(CifarResNet, 20),
    "resnet32": partial(CifarResNet, 32),
    "resnet44": partial(CifarResNet, 44),
    "resnet56": partial(CifarResNet, 56),
    "resnet10": partial(ImagenetResNet, BasicBlock, [1, 1, 1, 1]),
    "resnet18": partial(ImagenetResNet, BasicBlock, [2, 2, 2, 2]),
    "resnet34": partial(ImagenetResNet, BasicBlock, [3, 4, 6, 3]),
    "resnet50": partial(ImagenetResNet, Bottleneck, [3, 4, 6, 3]),
    "resnet101": partial(ImagenetResNet, Bottleneck, [3, 4, 23, 3]),
    "resnet152": partial(ImagenetResNet, Bottleneck, [3, 8, 36, 3]),
}
"""20 to 56 are the CIFAR papers' (D = 64); the others torchvision's (D = 512 or 2048), of which 10 has no weights."""

LAYER = "pooled"
"""The feature's name in a cache's identity: the globally averaged last feature map, before the classifier."""


class Classifier(nn.Module):
    """A backbone and a linear, or with a `cosine_scale` a cosine, classifier on its feature: (B, 3, S, S) -> logits (B, C).

    BBN's backbone takes one more argument, its branches' share.
    """

    def __init__(self, backbone: nn.Module, classes: int, cosine_scale: float | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        width = int(backbone.width)  # type: ignore[arg-type]
        self.classifier: nn.Linear | CosineClassifier
        if cosine_scale is not None:
            self.classifier = CosineClassifier(width, classes, cosine_scale)
            return
        self.classifier = nn.Linear(width, classes)
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, *share: Tensor) -> Tensor:
        return self.classifier(self.backbone(x, *share))


def build_for(settings: Settings, classes: int, weights: bool = False) -> Classifier:
    """The settings' backbone and classifier, before training; with `weights`, the backbone starts from its own."""
    backbone, stage1 = settings.backbone, settings.stage1
    scale = stage1.cosine_scale if stage1.loss == "ldam" else None
    start = backbone.weights if weights else ""
    return build(backbone.name, classes, start, settings.seed, backbone.ending, scale)


def build(
    name: str,
    classes: int,
    weights: str = "",
    seed: int = 0,
    ending: str = "plain",
    cosine_scale: float | None = None,
) -> Classifier:
    """A backbone of `BACKBONES` with a fresh classifier of `classes` outputs; parameters drawn from `seed`.

    `weights`: "" for random, a torchvision weights entry such as "IMAGENET1K_V2", or a .safetensors file. `ending` is put
    behind the network that they are of.
    Raises ConfigError for a name or an entry there is not, DataError where weights cannot be had or do not fit.
    """
    if name not in BACKBONES and not name.startswith(TIMM):
        raise ConfigError(f"backbone.name: wanted one of {', '.join(BACKBONES)}, found {name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "init"))
        pretrained = name.startswith(TIMM) and weights == "pretrained"
        backbone = timm_backbone(name, pretrained) if name.startswith(TIMM) else BACKBONES[name]()
        weights = "" if pretrained else weights
        if ending != "plain":
            if weights:
                _load_weights(backbone, name, weights)
            return Classifier(_with_ending(backbone, name, ending), classes, cosine_scale)
        model = Classifier(backbone, classes, cosine_scale)
    if weights:
        _load_weights(backbone, name, weights)
    return model


def _with_ending(network: nn.Module, name: str, ending: str) -> nn.Module:
    if not isinstance(network, (CifarResNet, ImagenetResNet)):
        raise ConfigError(
            f"backbone.ending={ending}: is for {', '.join(BACKBONES)}, found {name}; set backbone.ending=plain"
        )
    if ending == "bbn":
        return Bilateral(network, BACKBONES[name]())
    if isinstance(network, CifarResNet):
        return NewBlock(network, CifarBlock(network.width, network.width, 1))
    block = Bottleneck if network.width == 2048 else BasicBlock
    return NewBlock(network, block(network.width, 512))


def _load_weights(backbone: nn.Module, name: str, weights: str) -> None:
    if weights.endswith(".safetensors"):
        state = {key.removeprefix("backbone."): tensor for key, tensor in checkpoint.load(Path(weights))[0].items()}
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
