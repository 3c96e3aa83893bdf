"""A model that `export` wrote, read again and run: ONNX by onnxruntime, safetensors by torch."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.artefacts import tensors
from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.saved import ARCHITECTURES
from pipeline.errors import ConfigError, DataError
from pipeline.exporting.deployable import ABOUT, LINEAR, About, Deployable
from pipeline.images.decoding import Item
from pipeline.predict import top_predictions
from pipeline.predicting.encoder import backbone_from, pixels_of
from pipeline.predicting.files import Prediction

HEAD = "head."
"""Before the names of the tensors of a classifier that is no linear map."""
MODEL_BATCH = 64
"""Images that a model takes at a time."""


@dataclass(frozen=True)
class ExportedModel:
    """What a file says about itself, and its probabilities of inputs: pixels uint8 (B, S, S, 3) or features (B, D)."""

    about: About
    probabilities: Callable[[Tensor], Tensor]
    """Inputs -> (B, C)."""

    @property
    def width(self) -> int:
        return self.about.width

    @property
    def classes(self) -> tuple[str, ...]:
        return self.about.classes

    def features(self, items: Sequence[Item]) -> tuple[Tensor, list[int], dict[int, str]]:
        """Pixels of the images that can be decoded, their positions, and for each other position the reason."""
        return pixels_of(items, self.about.transform)

    def top(self, names: Sequence[str], inputs: Tensor, count: int) -> list[Prediction]:
        """The `count` likeliest classes of each row."""
        parts = [self.probabilities(block) for block in inputs.split(MODEL_BATCH)] if len(inputs) else []
        return top_predictions(names, torch.cat(parts), self.classes, count) if parts else []


def read_exported(path: Path) -> ExportedModel:
    """A file of `export`. Raises DataError where it is none, ConfigError where a package is missing.

    A torch-export file is refused: torch's reader of it can run code that the file brings.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; wanted a model that coattail export wrote")
    if path.suffix not in READERS:
        raise DataError(
            f"{path}: wanted a model that ends with {' or '.join(READERS)}, found {path.suffix or 'no suffix'}; a .pt2 file is "
            "for torch.export.load alone, which can run code that a file brings"
        )
    return READERS[path.suffix](path)


def read_torch_export(path: Path) -> ExportedModel:
    """A .pt2 file that this process has just written itself: torch's reader may run code that a stranger's file brings."""
    program = torch.export.load(path, extra_files=(extra := {f"{ABOUT}.json": ""}))
    model = program.module()
    return ExportedModel(_about(path, {ABOUT: extra[f"{ABOUT}.json"]}), torch.no_grad()(model))


def _about(path: Path, metadata: Mapping[str, str]) -> About:
    if ABOUT not in metadata:
        raise DataError(f"{path}: its metadata has no {ABOUT!r}; wanted a model that coattail export wrote")
    try:
        about = About.model_validate_json(metadata[ABOUT])
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"{path}: metadata {ABOUT}: {'.'.join(map(str, first['loc']))}: {first['msg']}; export the run again"
        ) from None
    if about.takes == "pixels" and not {"size", "resize", "mean", "std"} <= about.transform.keys():
        raise DataError(f"{path}: metadata {ABOUT}: transform lacks size, resize, mean or std; export the run again")
    return about


def _onnx(path: Path) -> ExportedModel:
    if importlib.util.find_spec("onnxruntime") is None:
        raise ConfigError(f"{path}: wants onnxruntime; install coattail with the extra onnx: coattail[onnx]")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a type of its own for each status code
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: cannot be read as ONNX ({reason}); export the run again") from None
    about = _about(path, session.get_modelmeta().custom_metadata_map)
    name = session.get_inputs()[0].name

    def probabilities(inputs: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: inputs.contiguous().numpy()})[0])

    return ExportedModel(about, probabilities)


def _safetensors(path: Path) -> ExportedModel:
    state, metadata = tensors.load(path)
    about = _about(path, metadata)
    try:
        head = _head(about, state)
    except ValueError as error:  # before memory is taken for what the metadata say
        raise DataError(f"{path}: {error}; export the run again") from None
    try:
        backbone = None
        if about.takes == "pixels":
            size = int(about.transform["size"])
            backbone = backbone_from(about.backbone_settings, about.backbone_classes, None, about.layer, size, "cpu")
        model = Deployable(about, backbone, head).eval().requires_grad_(False)
        model.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: its tensors are not those of its network ({reason}); export the run again") from None
    return ExportedModel(about, torch.inference_mode()(model))


def _head(about: About, state: Mapping[str, Tensor]) -> Architecture | None:
    """The classifier that is no linear map; None for linear ones. Raises ValueError where the tensors are not of these sizes."""
    replicas, classes = len(about.seeds), len(about.classes)
    if about.architecture == LINEAR:
        wanted = [replicas, about.width, classes]
        found = list(state["weight_RDC"].shape) if "weight_RDC" in state else []
        if found != wanted:
            raise ValueError(f"weight_RDC: wanted shape {wanted}, found {found}")
        return None
    named = {name.removeprefix(HEAD): tensor for name, tensor in state.items() if name.startswith(HEAD)}
    head = ARCHITECTURES[about.architecture](named)
    sizes = {"R": head.sizes.get("R", 1), "D": head.sizes["D"], "C": head.sizes["C"]}
    if sizes != {"R": replicas, "D": about.width, "C": classes}:
        raise ValueError(
            f"{about.architecture}: wanted {replicas} seeds, {about.width} features and {classes} classes, found "
            f"{', '.join(map(str, sizes.values()))}"
        )
    return head


READERS: dict[str, Callable[[Path], ExportedModel]] = {".onnx": _onnx, ".safetensors": _safetensors}
"""The suffix of an exported file -> what reads it."""
