"""The cosine classifier of LDAM, and the linear classifier that makes the same decisions."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.backbones.backbone import Backbone

MOMENTUM = 0.1
"""How far the running feature norm moves towards a batch's, as in batch normalisation."""


class CosineClassifier(nn.Module):
    """scale * cosine(w_c, a), no bias (Cao et al., 2019, section 3.2): (B, D) -> logits (B, C).

    Keeps a running mean of the feature's norm while it trains.
    """

    scale: Tensor
    norm: Tensor

    def __init__(self, width: int, classes: int, scale: float) -> None:
        super().__init__()
        self.in_features = width
        self.weight = nn.Parameter(F.normalize(torch.rand(classes, width) * 2 - 1, dim=1))
        self.register_buffer("scale", torch.tensor(scale))
        self.register_buffer("norm", torch.tensor(1.0))

    def forward(self, features_BD: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.norm.lerp_(features_BD.float().norm(dim=1).mean(), MOMENTUM)
        return self.scale * F.linear(F.normalize(features_BD, dim=1), F.normalize(self.weight, dim=1))


def head_like(tensors: Mapping[str, Tensor], width: int, classes: int) -> nn.Linear | CosineClassifier:
    """A new classifier (C, D), linear or cosine, as the names of a trained backbone's tensors say; their values are not taken."""
    return CosineClassifier(width, classes, 1.0) if "classifier.scale" in tensors else nn.Linear(width, classes)


def linear_form(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """weight (C, D) and bias (C,) on raw features, from `classifier.*` of a trained backbone.

    A linear classifier is its own. A cosine classifier becomes scale / norm * w_c / |w_c| without bias, norm being the mean
    feature norm in training: the same decision for every feature, and the same confidence for one of that norm.
    """
    weight_CD = tensors["classifier.weight"]
    if "classifier.bias" in tensors:
        return {"weight": weight_CD, "bias": tensors["classifier.bias"]}
    gain = tensors["classifier.scale"] / tensors["classifier.norm"]
    return {"weight": gain * F.normalize(weight_CD, dim=1), "bias": torch.zeros(len(weight_CD))}


class ImageClassifier(nn.Module):
    """A backbone and a linear, or with a `cosine_scale` a cosine, classifier on its feature: (B, 3, S, S) -> logits (B, C).

    BBN's backbone takes one more argument, its branches' share.
    """

    def __init__(self, backbone: Backbone, classes: int, cosine_scale: float | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes = classes
        width = backbone.width
        self.classifier: nn.Linear | CosineClassifier
        if cosine_scale is not None:
            self.classifier = CosineClassifier(width, classes, cosine_scale)
            return
        self.classifier = nn.Linear(width, classes)
        nn.init.kaiming_normal_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, *share: Tensor) -> Tensor:
        return self.classifier(self.backbone(x, *share))
