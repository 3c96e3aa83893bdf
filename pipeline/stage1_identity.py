"""The identity of the cache that `extract` makes: images, weights and whatever else changes its rows."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cache import Identity, SplitIdentity
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build_for
from pipeline.backbones.classifier import ImageClassifier, head_like
from pipeline.backbones.layers import layer_name, with_layers
from pipeline.backbones.maps import map_size
from pipeline.errors import DataError, LineageError
from pipeline.images.dataset import Dataset, load
from pipeline.images.pixels import Geometry
from pipeline.images.transforms import views
from pipeline.machine.device import device_of, number_format, on_this_machine
from pipeline.settings import Settings
from pipeline.stage1_backbone import NAME, BackboneRun, finished


def identity_wanted(settings: Settings, runs: Path) -> Identity:
    """The identity that `extract` would give these settings' cache; nothing is extracted.

    Raises DataError where the settings' own backbone is not trained: its weights are part of the identity.
    """
    return frozen_backbone(settings, finished(settings, runs), lambda text: None)[-1]


def frozen_backbone(
    settings: Settings, run: BackboneRun, say: Callable[[str], None]
) -> tuple[Dataset, ImageClassifier, dict[str, Tensor], Identity]:
    """The images, the backbone in eval mode, the tensors of its file, and the identity of the cache that they make.

    The tensors lack the classifier where it was trained on other classes; `say` is then called with a line. Raises
    DataError where the file is damaged, LineageError where its tensors do not fit the settings' backbone.
    """
    settings = on_this_machine(settings)
    dataset = run.dataset or load(settings)
    tensors, metadata = checkpoint.load(run.folder / NAME)
    folders.prove(run.folder / NAME, checkpoint.digest(tensors), run.digest)
    recorded = run.metrics.get("classes")
    if recorded is not None and metadata.get("classes") != json.dumps(recorded):
        raise DataError(
            f"{run.folder / NAME}: changed after it was written: wanted the {len(recorded)} classes that metrics.json has, found "
            f"others; {folders.AGAIN}"
        )
    if metadata.get("classes") != json.dumps(dataset.classes):
        if "classes" in metadata:
            say(f"backbone {run.folder}: trained on other classes; its features are dumped without its classifier")
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    model = _model(settings, run, tensors, metadata, dataset)
    model.backbone = with_layers(model.backbone, settings.extract.layers, settings.data.image_size)
    maps = map_size(settings, model.backbone)
    identity = _identity(settings, dataset, checkpoint.digest(tensors), model.backbone.width, maps)
    return dataset, model, tensors, identity


def _model(
    settings: Settings, run: BackboneRun, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dataset: Dataset
) -> ImageClassifier:
    classes = len(dataset.classes)
    model = build_for(settings, classes) if run.module is None else ImageClassifier(run.module, classes)
    if run.module is None:
        _check(settings, run, tensors, metadata, model)
    state = {key.removeprefix("backbone."): tensor for key, tensor in tensors.items() if key.startswith("backbone.")}
    model.backbone.load_state_dict(state)
    model = model.to(device_of(settings.stage1.device)).eval()
    return model.to(memory_format=torch.channels_last) if settings.stage1.channels_last else model


def _check(
    settings: Settings,
    run: BackboneRun,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    model: ImageClassifier,
) -> None:
    wanted = {f"backbone.{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    if not all(name.startswith("backbone.") for name in tensors):
        head = head_like(tensors, model.classifier.in_features, model.classes)
        wanted |= {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    try:
        checkpoint.check(tensors, wanted)
    except ValueError as error:
        name, trained = settings.backbone.full_name, metadata.get("backbone", "an unnamed backbone")
        if trained == name:
            raise DataError(f"{run.folder / NAME}: {error}; delete {run.folder} to train it again") from None
        raise LineageError(
            f"backbone {run.folder}: tensors of {trained[:60]} do not fit {name} ({error}); set backbone.name to what was trained"
        ) from None


def _identity(
    settings: Settings, dataset: Dataset, weights: str, width: int, maps: tuple[int, int] | None = None
) -> Identity:
    data = settings.data
    geometry = Geometry.of(data.image_size, settings.stage1.augmentation, data.interpolation, data.fit)
    splits = {
        name: SplitIdentity(
            rows=len(split),
            samples=split.samples_digest(),
            content=split.content_digest(),
            views=len(views.recipes(settings, name)) - 1,
        )
        for name, split in dataset.splits.items()
    }
    return Identity(
        classes=dataset.classes,
        splits=splits,
        weights=weights,
        backbone=settings.backbone.full_name,
        layer=layer_name(settings.extract.layers),
        width=width,
        transform={
            "size": geometry.size,
            "resize": geometry.resize,
            "interpolation": geometry.interpolation,
            "mean": list(data.mean),
            "std": list(data.std),
            **geometry.described(),
            **dataset.decoding,
        },
        # Of shifted batch-norm statistics, `weights` is the digest of the weights before the shift.
        view_transform=views.described(settings, geometry.size),
        views_seed=settings.seed,
        bn=settings.extract.bn,
        autocast=number_format(settings.extract.amp, device_of(settings.stage1.device), data.image_size),
        dtype=settings.extract.dtype,
        maps=maps,
    )
