"""New images -> features, by the backbone and the clean view that a cache's features came from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from cache import Identity, Manifest
from pipeline.artefacts import folders, tensors
from pipeline.backbones import build_for
from pipeline.backbones.classifier import ImageClassifier
from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.depth import Scale
from pipeline.images.pixels import Geometry, decode_readable
from pipeline.images.transforms.recipe import normalise
from pipeline.machine.device import autocast, device_of
from pipeline.settings import Settings

BACKBONE = "backbone.safetensors"
MODULE = "module:"
"""How the name of a backbone begins that is a module of the user's own."""
ELSEWHERE = "extract the features where it is, and give them with --features FILE"


@dataclass(frozen=True)
class Encoder:
    """A frozen backbone, and how an image becomes its input: as the identity of a cache has both."""

    backbone: nn.Module
    identity: Identity
    batch_size: int

    @torch.inference_mode()
    def features(self, items: Sequence[Item]) -> tuple[Tensor, list[int], dict[int, str]]:
        """Features (B, D) of the images that can be decoded, in the cache's storage type and in batches of its size; their
        positions among the items; and for each other position the reason.
        """
        transform = self.identity.transform
        geometry = Geometry(int(transform["size"]), int(transform["resize"]))
        scale = Scale(int(transform.get("white", Scale.integer)), float(transform.get("white_of_floats", Scale.real)))
        pixels_BSS3, positions, broken = decode_readable(items, geometry, scale)
        device = next(self.backbone.parameters()).device
        parts = [torch.empty(0, self.identity.width)]
        for block_BSS3 in pixels_BSS3.split(self.batch_size):
            inputs_B3SS = normalise(block_BSS3.permute(0, 3, 1, 2).to(device), transform["mean"], transform["std"])
            with autocast(self.identity.autocast, device):
                parts.append(self.backbone(inputs_B3SS).float().cpu())
        return torch.cat(parts).to(getattr(torch, self.identity.dtype)), positions, broken


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
    known = {section: recorded[section] for section in ("seed", "backbone", "stage1") if section in recorded}
    settings = Settings.model_validate_json(json.dumps(known), strict=True)
    classes = len(json.loads(metadata["classes"])) if "classes" in metadata else len(identity.classes)
    return Encoder(_backbone(settings, classes, weights), identity, manifest.provenance.batch_size or 256)


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


def _backbone(settings: Settings, classes: int, weights: dict[str, Tensor]) -> nn.Module:
    model: ImageClassifier = build_for(settings, classes)
    prefix = "backbone."
    state = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    model.backbone.load_state_dict(state)
    backbone = model.backbone.to(device_of(settings.stage1.device)).eval()
    return backbone.to(memory_format=torch.channels_last) if settings.stage1.channels_last else backbone
