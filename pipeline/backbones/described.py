"""How images must be prepared for ready-made weights, and what a backbone's short name stands for."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts import tensors
from pipeline.backbones.networks import LITE
from pipeline.backbones.ready_made import (
    OPEN_CLIP,
    PRETRAINED,
    TIMM,
    fits,
    package,
    torchvision_entries,
    torchvision_entry,
)
from pipeline.errors import ConfigError, PipelineError
from pipeline.settings.stage1 import Data

FILE = "file:"
NONE = "none"
"""In place of weights: random ones."""
TRANSFORM = "transform"
"""The key in the metadata of a run's file of weights under which `Description` stands, as JSON."""


@dataclass(frozen=True)
class Description:
    """How images become the input of weights: pixels a side, red, green and blue over 255, and how they are resized."""

    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"

    @staticmethod
    def of(data: Data) -> "Description":
        """The settings' own, of images that a backbone is trained on."""
        mean, std = ((values[0], values[1], values[2]) for values in (data.mean, data.std))
        return Description(data.image_size, mean, std, data.interpolation)

    def settings(self) -> dict[str, Any]:
        """The settings of `data` that say so."""
        return asdict(self)


LITE_INPUT = Description(224, (127 / 255,) * 3, (128 / 255,) * 3)
"""(pixel - 127) / 128, resized bilinearly, as EfficientNet-Lite's authors prepare ImageNet."""


def input_of(name: str, weights: str) -> Description | None:
    """How images must be prepared for a backbone's weights; None where they do not say, or their package is missing.

    Nothing is downloaded. Raises ConfigError where there are no such weights.
    """
    if not weights:
        return None
    if weights.endswith(".safetensors") and (own := _of_file(weights)):
        return own
    if name == LITE:
        return LITE_INPUT
    try:
        if name.startswith(TIMM):
            return _of_timm(name)
        if name.startswith(OPEN_CLIP):
            return _of_open_clip(name, weights)
    except PipelineError:  # the package is missing, or has no such model: said where the network is built
        return None
    return None if weights.endswith(".safetensors") else _of_torchvision(name, weights)


def _of_file(weights: str) -> Description | None:
    text = tensors.load(Path(weights).expanduser())[1].get(TRANSFORM, "")
    try:
        return TypeAdapter(Description).validate_json(text) if text else None
    except ValidationError:  # written by others
        return None


def _of_torchvision(name: str, weights: str) -> Description:
    transform: Any = torchvision_entry(name, weights).transforms()
    return Description(
        transform.crop_size[0], tuple(transform.mean), tuple(transform.std), transform.interpolation.value
    )


def _of_timm(name: str) -> Description | None:
    timm: Any = package("timm", name, "timm")
    described = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    if described is None:
        return None
    return Description(
        described.input_size[-1], tuple(described.mean), tuple(described.std), _resizing(described.interpolation)
    )


def _of_open_clip(name: str, tag: str) -> Description | None:
    open_clip: Any = package("open_clip", name, "open_clip_torch")
    model = name.removeprefix(OPEN_CLIP)
    described, network = open_clip.get_pretrained_cfg(model, tag), open_clip.get_model_config(model)
    if not described or network is None:
        return None
    size = network["vision_cfg"]["image_size"]
    side = size if isinstance(size, int) else size[0]
    return Description(side, tuple(described["mean"]), tuple(described["std"]), _resizing(described["interpolation"]))


def _resizing(interpolation: str) -> str:
    """A value of `data.interpolation`: timm knows others, such as one drawn at random, for which bicubic stands."""
    return interpolation if interpolation in ("bilinear", "bicubic", "lanczos") else "bicubic"


def short_name(text: str, configured: str) -> tuple[str, str]:
    """`backbone.name` and `backbone.weights` of a short name, as `--backbone` takes it.

    `resnet50`, `timm:NAME` and `open_clip:MODEL` bring the best weights there are; `resnet50:IMAGENET1K_V1` and
    `open_clip:MODEL:TAG` name others, and `resnet50:none` is random. `file:PATH` is of the network that the file names,
    else of the one `configured`. Raises ConfigError where there is no such file or package, DataError where the file is broken.
    """
    if text.startswith(FILE):
        return _of_run(text.removeprefix(FILE), configured)
    prefix = next((prefix for prefix in (TIMM, OPEN_CLIP) if text.startswith(prefix)), "")
    rest, colon, weights = text.removeprefix(prefix).partition(":")
    name = prefix + rest
    if weights == NONE:
        return name, ""
    if colon:
        return name, weights
    if prefix == TIMM or name == LITE:
        return name, PRETRAINED
    if prefix == OPEN_CLIP:
        return name, _best_tag(name)
    entries = torchvision_entries(name)
    return name, entries[-1] if entries else ""


def _best_tag(name: str) -> str:
    """The first weights that open_clip lists for a model and that fit its activation; "" where there are none."""
    open_clip: Any = package("open_clip", name, "open_clip_torch")
    model = name.removeprefix(OPEN_CLIP)
    return next((tag for tag in open_clip.list_pretrained_tags_by_model(model) if fits(open_clip, model, tag)), "")


def _of_run(file: str, configured: str) -> tuple[str, str]:
    path = Path(file).expanduser()
    if path.suffix != ".safetensors":
        raise ConfigError(f"--backbone {FILE}{file}: wanted a file of weights, NAME.safetensors, found {path.name!r}")
    if not path.is_file():
        raise ConfigError(f"--backbone {FILE}{file}: no such file; give the path of a .safetensors file")
    recorded = tensors.load(path)[1].get("backbone", configured)
    if recorded.endswith(("-bbn", "-new-block")):
        raise ConfigError(
            f"--backbone {FILE}{file}: weights of {recorded[:60]}, a network with another ending; set backbone.weights, "
            "backbone.name and backbone.ending in a config"
        )
    return recorded, file
