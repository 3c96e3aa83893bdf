"""Suggestions for an unknown backbone name: the name here of the well-known network that is probably meant."""

import difflib
from collections.abc import Sequence

from pipeline.backbones.ready_made import torchvision_names
from pipeline.errors import ConfigError

WELL_KNOWN = {
    "dinov2": "timm:vit_small_patch14_dinov2.lvd142m",
    "dinov3": "timm:vit_small_patch16_dinov3.lvd1689m",
    "dino": "timm:vit_small_patch16_224.dino",
    "mae": "timm:vit_base_patch16_224.mae",
    "siglip": "timm:vit_base_patch16_siglip_224",
    "clip": "open_clip:ViT-B-32-quickgelu",
    "efficientnet-lite": "efficientnet-lite0",
    "efficientnet": "efficientnet_b0",
    "convnext": "convnext_tiny",
    "swin": "swin_t",
    "vit": "vit_b_16",
    "mobilenet": "mobilenet_v3_large",
}
"""Part of a name as people say it -> a name that is meant; the first that fits is taken."""


def unknown(name: str, own: Sequence[str]) -> ConfigError:
    """The error of a name that is none, with the closest one; `own` are the names that need no other package."""
    closest = difflib.get_close_matches(name, [*own, *torchvision_names()], n=1, cutoff=0.75)
    parts = [value for part, value in WELL_KNOWN.items() if part in name.lower()]
    meant = (parts or closest)[:1]
    hint = f"; did you mean {meant[0]}?" if meant else ""
    return ConfigError(
        f"backbone.name: wanted one of {', '.join(own)}, another of torchvision's classifiers, timm:NAME or open_clip:NAME, "
        f"found {name[:80]!r}{hint}"
    )
