"""A finished classifier as one module for use elsewhere: pixels, or features, in; class probabilities out."""

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from pipeline.artefacts.figures import Finite
from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.saved import ARCHITECTURES
from pipeline.errors import DataError
from pipeline.predict import Predictor
from pipeline.predicting.encoder import Encoder

Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
LINEAR = Classifier.architecture
ABOUT = "coattail"
"""The name in a file's metadata under which `About` stands as JSON."""


class ReadTransform(BaseModel):
    """The part of a transform that a reader computes with: pixels a side, how an image comes to them, and what is white."""

    model_config = ConfigDict(extra="allow")

    size: Annotated[int, Field(ge=1, le=4096)]
    resize: Annotated[int, Field(ge=1, le=8192)]
    mean: tuple[Finite, Finite, Finite]
    std: tuple[Above, Above, Above]
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["crop", "stretch"] = "crop"
    white: Annotated[int, Field(ge=1)] = 1
    white_of_floats: Above = 1.0


class About(BaseModel):
    """What an exported file says about itself, as JSON in its metadata under the name `coattail`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    classes: tuple[str, ...]
    """Class names, in the order of the columns of the probabilities."""
    takes: Literal["pixels", "features"]
    """`pixels`, uint8 (B, S, S, 3), red, green and blue; or `features`, float32 (B, D)."""
    width: Annotated[int, Field(ge=1, le=1 << 20)]
    """D, the length of a feature."""
    transform: dict[str, Any]
    """How an image becomes pixels before the model, and how the model normalises them. Empty for features."""
    features_dtype: Literal["float16", "float32"]
    """The type that the model rounds features to: that of the cache which the classifier was trained on."""
    temperature: Above
    """The logits are divided by it; 1 where the probabilities are not calibrated."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1, max_length=1000)]
    """The probabilities are the mean over the classifiers of these seeds."""
    method: str
    cache: str
    classifier: str
    """sha256, hex, of the run's classifier."""
    architecture: str = LINEAR
    """`linear`, or what a classifier is that is no linear map, as `classifiers.saved.ARCHITECTURES` names it."""
    backbone: str
    """The network, as the cache's identity names it."""
    layer: str = "pooled"
    """Which of the network's features, as the cache's identity names them."""
    backbone_classes: Annotated[int, Field(ge=0, le=1 << 20)] = 0
    backbone_settings: dict[str, Any] = {}
    """What the network is built from again; empty for features."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, architecture: str) -> str:
        if architecture not in (LINEAR, *ARCHITECTURES):
            raise ValueError(f"wanted one of {', '.join((LINEAR, *ARCHITECTURES))}")
        return architecture

    @field_validator("transform")
    @classmethod
    def _can_be_computed_with(cls, transform: dict[str, Any]) -> dict[str, Any]:
        if transform:
            ReadTransform.model_validate(transform)
        return transform


class Deployable(nn.Module):
    """uint8 (B, S, S, 3), or without a backbone float32 (B, D), -> probabilities float32 (B, C).

    Normalisation, backbone, the rounding of features, the classifiers of R seeds, softmax, and the mean over seeds. Linear
    classifiers have the temperature in their weights; of others, `head`, the scores are divided by it.
    """

    weight_RDC: Tensor
    bias_R1C: Tensor
    shift_C: Tensor
    mean_3: Tensor
    std_3: Tensor

    def __init__(self, about: About, backbone: nn.Module | None, head: Architecture | None = None) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head
        self._dtype, self._temperature = getattr(torch, about.features_dtype), about.temperature
        replicas, classes = len(about.seeds), len(about.classes)
        if head is None:
            self.register_buffer("weight_RDC", torch.zeros(replicas, about.width, classes))
            self.register_buffer("bias_R1C", torch.zeros(replicas, 1, classes))
        else:
            self.register_buffer("shift_C", torch.zeros(classes))
        if backbone is not None:
            self.register_buffer("mean_3", torch.tensor(about.transform["mean"], dtype=torch.float32))
            self.register_buffer("std_3", torch.tensor(about.transform["std"], dtype=torch.float32))

    def forward(self, inputs: Tensor) -> Tensor:
        features_BD = inputs
        if self.backbone is not None:
            normalised_BSS3 = (inputs.float() / 255 - self.mean_3) / self.std_3
            features_BD = self.backbone(normalised_BSS3.permute(0, 3, 1, 2))
        features_BD = features_BD.to(self._dtype).float()
        if self.head is None:
            logits_RBC = torch.matmul(features_BD[None], self.weight_RDC) + self.bias_R1C
        else:
            logits_RBC = self.head(features_BD) / self._temperature + self.shift_C
        return logits_RBC.softmax(dim=2).mean(dim=0)


def deployable(
    predictor: Predictor, encoder: Encoder | None, identity: Any, method: str, seeds: tuple[int, ...]
) -> tuple[About, Deployable]:
    """The predictor's classifiers behind the encoder's backbone, or alone, on the CPU, for inference.

    `identity` is that of the cache that the run was made from, `seeds` those of the predictor's replicas.
    """
    about = About(
        classes=predictor.classes,
        takes="features" if encoder is None else "pixels",
        width=identity.width,
        transform={} if encoder is None else identity.transform,
        features_dtype=identity.dtype,
        temperature=predictor.temperature,
        seeds=seeds,
        method=method,
        cache=identity.key(),
        classifier=predictor.digest,
        architecture=predictor.classifier.architecture,
        backbone=identity.backbone,
        layer=identity.layer,
        backbone_classes=0 if encoder is None else encoder.classes,
        backbone_settings={} if encoder is None else encoder.built_from,
    )
    classifier, backbone = predictor.classifier, None if encoder is None else encoder.backbone.cpu().float()
    if isinstance(classifier, Classifier):
        model = Deployable(about, backbone)
        model.weight_RDC.copy_(classifier.weight_RCD.mT / predictor.temperature)
        model.bias_R1C.copy_(classifier.bias_RC[:, None] / predictor.temperature)
    else:
        model = Deployable(about, backbone, classifier.network)
    if predictor.shift_C is not None:
        (model.bias_R1C if model.head is None else model.shift_C).add_(predictor.shift_C)
    return about, model.eval().requires_grad_(False)


def example(about: About, rows: int) -> Tensor:
    """Inputs of the model's shape and type, all zero."""
    if about.takes == "features":
        return torch.zeros(rows, about.width)
    size = int(about.transform["size"])
    return torch.zeros(rows, size, size, 3, dtype=torch.uint8)


def one_seed(predictor: Predictor, seeds: list[int], seed: int) -> Predictor:
    """The predictor with the classifier of one seed alone. Raises DataError for a seed that the run has not."""
    if seed not in seeds:
        raise DataError(f"seed {seed}: wanted one of the run's, {', '.join(map(str, seeds))}")
    return predictor.replica(seeds.index(seed))
