"""New images -> features, with the backbone and the clean view that a cache's features were made with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cache import Identity, Manifest
from pipeline.artefacts import folders, tensors
from pipeline.backbones import build_for
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.classifier import ImageClassifier
from pipeline.backbones.layers import with_layers
from pipeline.errors import ConfigError, DataError
from pipeline.images.decoding import Item
from pipeline.images.depth import Scale
from pipeline.images.pixels import Geometry, decode_readable
from pipeline.images.transforms.recipe import FixedCrop, normalise
from pipeline.images.transforms.views import cropped, crops
from pipeline.machine.device import autocast, device_of
from pipeline.settings import Settings
from pipeline.settings.stage1 import TEST_VIEWS

BACKBONE = "backbone.safetensors"
MODULE = "module:"
"""The prefix of a backbone's name that says that it is a module of the user's own."""
ELSEWHERE = "extract the features where it is, and give them with --features FILE"


@dataclass(frozen=True)
class Encoder:
    """A frozen backbone and how an image becomes its input, both as a cache's identity records them."""

    backbone: nn.Module
    identity: Identity
    batch_size: int
    classes: int = 0
    """Of the classifier that the backbone was trained with; the backbone is built with it again."""
    built_from: dict[str, Any] = field(default_factory=dict)
    """The sections of settings that the backbone is built from."""
    crops: tuple[FixedCrop, ...] = (FixedCrop(),)
    """The views of each image that probabilities are averaged over."""

    @torch.inference_mode()
    def features(self, items: Sequence[Item]) -> tuple[Tensor, list[int], dict[int, str]]:
        """Features of the images that can be decoded, in the cache's storage type and batch size; their positions among the
        items; and for each other position the reason. They are (B, D), or (V, B, D) where there are several crops.
        """
        pixels_BSS3, positions, broken = pixels_of(items, self.identity.transform)
        if len(self.crops) == 1:
            return self._features(pixels_BSS3), positions, broken
        return torch.stack([self._features(cropped(pixels_BSS3, crop)) for crop in self.crops]), positions, broken

    def _features(self, pixels_BSS3: Tensor) -> Tensor:
        transform, device = self.identity.transform, next(self.backbone.parameters()).device
        parts = [torch.empty(0, self.identity.width)]
        for block_BSS3 in pixels_BSS3.split(self.batch_size):
            inputs_B3SS = normalise(block_BSS3.permute(0, 3, 1, 2).to(device), transform["mean"], transform["std"])
            with autocast(self.identity.autocast, device):
                parts.append(self.backbone(inputs_B3SS).float().cpu())
        return torch.cat(parts).to(getattr(torch, self.identity.dtype))

    def with_views(self, wanted: int | str, cached: int) -> "Encoder":
        """The same with so many views of each image, `all` for the number `cached` of the cache's test rows.

        Raises ConfigError for more than there are of images as this backbone was trained on.
        """
        augmentation = Settings.model_validate(self.built_from).stage1.augmentation
        number, most = cached if wanted == "all" else int(wanted), TEST_VIEWS[augmentation]
        if number > most:
            raise ConfigError(
                f"--test-views {wanted}: wanted at most {most} for a backbone trained with stage1.augmentation={augmentation}"
            )
        return replace(self, crops=tuple(crops(augmentation, int(self.identity.transform["size"]), number)))


def pixels_of(items: Sequence[Item], transform: Mapping[str, Any]) -> tuple[Tensor, list[int], dict[int, str]]:
    """Pixels uint8 (B, S, S, 3) of the images that can be decoded, their positions, and for each other position the reason.

    `transform` is that of a cache's identity: the shorter side becomes `resize` pixels, the centre of `size` is cut out.
    """
    square = (str(transform.get("interpolation", "bilinear")), str(transform.get("fit", "crop")))
    geometry = Geometry(int(transform["size"]), int(transform["resize"]), *square)
    scale = Scale(int(transform.get("white", Scale.integer)), float(transform.get("white_of_floats", Scale.real)))
    return decode_readable(items, geometry, scale)


def encoder_of(manifest: Manifest, runs: Path, folder: Path | None = None) -> Encoder:
    """The encoder of a cache's features: from `folder`, a stage-1 run, by default the one in `runs` that the cache names.

    Raises DataError where features were imported, or the backbone is not at hand, is another, or is a module of one's own.
    """
    identity, name = manifest.identity, f"cache {manifest.key[:12]}"
    recorded = manifest.provenance.settings
    if "backbone" not in recorded:
        raise DataError(f"{name}: its features were imported, so the backbone is not known here; {ELSEWHERE}")
    if identity.backbone.startswith(MODULE):
        raise DataError(f"{name}: the backbone is a module of your own, {identity.backbone[:80]}; {ELSEWHERE}")
    if identity.bn != "plain":
        raise DataError(f"{name}: its backbone's batch normalisation was shifted on training images; {ELSEWHERE}")
    folder = folder or _folder(manifest, runs)
    weights, metadata = tensors.load(folder / BACKBONE)
    folders.prove(folder / BACKBONE, tensors.digest(weights), identity.weights)
    known: dict[str, Any] = {
        section: recorded[section] for section in ("seed", "backbone", "stage1") if section in recorded
    }
    classes = _classes(folder, metadata) if "classes" in metadata else len(identity.classes)
    backbone = backbone_from(known, classes, weights, identity.layer, int(identity.transform["size"]))
    return Encoder(backbone, identity, manifest.provenance.batch_size or 256, classes, known)


def _classes(folder: Path, metadata: Mapping[str, str]) -> int:
    """How many classes the backbone was trained on. Raises DataError where its file does not say it as it is written."""
    try:
        names = json.loads(metadata["classes"])
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise DataError(
            f"{folder / BACKBONE}: changed after it was written: wanted a list of classes in its metadata, found "
            f"{metadata['classes'][:40]!r}; {folders.AGAIN}"
        )
    return len(names)


def _folder(manifest: Manifest, runs: Path) -> Path:
    """The stage-1 run folder that the cache names."""
    wanted = manifest.provenance.backbone_run or "?"
    for metrics in sorted(runs.glob(f"*/{Path(wanted).name}/metrics.json")):
        if (metrics.parent / BACKBONE).is_file():
            return metrics.parent
    raise DataError(
        f"cache {manifest.key[:12]}: its backbone {wanted} is not in {runs}; name its run folder with --backbone, or "
        f"{ELSEWHERE}"
    )


def backbone_from(
    known: Mapping[str, Any],
    classes: int,
    weights: Mapping[str, Tensor] | None,
    layer: str,
    size: int,
    device: str = "auto",
) -> nn.Module:
    """The backbone that these sections of settings build, giving the features of a cache's layer, of images of `size` pixels.

    It has those of the tensors whose names begin with `backbone.`; without weights, those that it starts with.
    The device that it was trained on does not matter.
    """
    settings = Settings.model_validate_json(json.dumps(known), strict=True)
    return with_layers(_backbone(settings, classes, weights, device), layer.split("+"), size)


def _backbone(settings: Settings, classes: int, weights: Mapping[str, Tensor] | None, device: str) -> Backbone:
    model: ImageClassifier = build_for(settings, classes)
    prefix = "backbone."
    if weights is not None:
        state = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        model.backbone.load_state_dict(state)
    backbone = model.backbone.to(device_of(device)).eval()
    return backbone.to(memory_format=torch.channels_last) if settings.stage1.channels_last else backbone
