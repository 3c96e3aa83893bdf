"""Stage 1, the second half: a frozen backbone's features of every split -> a feature cache."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torchvision
from torch import Tensor

from cache import CacheWriter, Identity, Provenance, SplitIdentity, catalog
from cache.errors import CacheStorage
from pipeline import checkpoint, config
from pipeline.augmentation import PLAIN, Recipe, describe
from pipeline.authorship import author, coattail_version, now
from pipeline.backbones import LAYER, Classifier, build_for
from pipeline.batchnorm import reestimate
from pipeline.cosine import head_like, linear_form
from pipeline.datasets import Dataset, Split, load
from pipeline.errors import ConfigError, DataError, LineageError
from pipeline.hardware import device_of, keep_freed_memory
from pipeline.images import Geometry
from pipeline.inference import blocks, outputs
from pipeline.progress import note, track
from pipeline.ranks import rank, world
from pipeline.rng import derive
from pipeline.settings import Settings
from pipeline.stage1_backbone import NAME, BackboneRun, finished

CLEAN = "clean"


def extract(settings: Settings, run: BackboneRun, stores: Path) -> Path | None:
    """Dump every split: `train` clean and in `extract.views` augmented views, the others clean; the cache's folder.

    Where a cache of equal identity is published, nothing is computed; where one was begun, only what it lacks. A view of a
    sample depends on `seed`, the view's number and the sample's row alone. One of several processes (`ranks`) writes its own
    shards and returns None; the first waits for the others, writes what one that died has left, and returns the folder.
    Raises LineageError where the run's tensors do not fit the settings' backbone, DataError where its files are damaged.
    """
    first = rank() == 0
    dataset, model, tensors, identity = _frozen(settings, run, note if first else lambda text: None)
    path = catalog.published(stores, identity.key())
    if path is None:
        if settings.extract.bn == "shifted":
            reestimate(model.backbone, dataset.splits["train"], settings, "balanced")
        provenance = _provenance(settings, run)
        for worker in range(world()) if first else [rank()]:
            with CacheWriter(stores, identity, provenance, worker=worker, workers=world(), note=note) as writer:
                _fill(writer, settings, dataset, model, tensors)
                path = writer.publish_if_last()
    if first and path is None:
        raise CacheStorage(
            f"cache {identity.key()[:12]}: a shard was changed after it was written; run the command again"
        )
    return path if first else None


def identity_wanted(settings: Settings, runs: Path) -> Identity:
    """The identity that `extract` would give these settings' cache; nothing is extracted.

    Raises DataError where the settings' own backbone is not trained: its weights are part of the identity.
    """
    return _frozen(settings, finished(settings, runs), lambda text: None)[-1]


def _frozen(
    settings: Settings, run: BackboneRun, say: Callable[[str], None]
) -> tuple[Dataset, Classifier, dict[str, Tensor], Identity]:
    """Images, backbone, its tensors (without the classifier where that is of other classes), and what they are together."""
    dataset = run.dataset or load(settings)
    tensors, metadata = checkpoint.load(run.folder / NAME)
    if metadata.get("classes") != json.dumps(dataset.classes):
        if "classes" in metadata:
            say(f"backbone {run.folder}: trained on other classes; its features are dumped without its classifier")
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("backbone.")}
    model = _model(settings, run, tensors, metadata, dataset)
    identity = _identity(settings, dataset, checkpoint.digest(tensors), int(model.classifier.in_features))
    return dataset, model, tensors, identity


def _fill(
    writer: CacheWriter, settings: Settings, dataset: Dataset, model: Classifier, tensors: Mapping[str, Tensor]
) -> None:
    """Write what the writer's worker owns."""
    for name, split in dataset.splits.items():
        writer.write_rows(name, _rows(split, dataset.classes))
    if "classifier.weight" in tensors:
        writer.write_classifier({name: tensor.numpy() for name, tensor in linear_form(tensors).items()})
    _dump(writer, settings, dataset, model)


def _dump(writer: CacheWriter, settings: Settings, dataset: Dataset, model: Classifier) -> None:
    keep_freed_memory()
    views = [
        (name, view)
        for name, identity in writer.identity.splits.items()
        for view in (CLEAN, *(f"view-{number:02d}" for number in range(1, identity.views + 1)))
    ]
    shards = [shard for name, view in views for shard in writer.pending(name, view)]
    for name in {shard.split for shard in shards}:
        dataset.splits[name].images.prepare()
    total = sum(shard.stop - shard.start for shard in shards)
    part = "" if writer.workers == 1 else f", worker {writer.worker} of {writer.workers}"
    with track(total, f"extracting {settings.backbone.name}{part}", "images") as progress:
        for shard in shards:
            recipe = PLAIN if shard.view == CLEAN else Recipe.of(settings)
            seed = derive(settings.seed, "view", shard.view)
            rows = blocks(shard.start, shard.stop, settings.extract.batch_size)
            split = dataset.splits[shard.split]
            found = []
            for features_BD in outputs(model.backbone, split, rows, settings.data, settings.extract.amp, recipe, seed):
                found.append(features_BD.numpy())
                progress.advance(len(features_BD))
            writer.write(shard, np.concatenate(found))


def _model(
    settings: Settings, run: BackboneRun, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], dataset: Dataset
) -> Classifier:
    classes = len(dataset.classes)
    model = build_for(settings, classes) if run.module is None else Classifier(run.module, classes)
    if run.module is None:
        _check(settings, run, tensors, metadata, model)
    state = {key.removeprefix("backbone."): tensor for key, tensor in tensors.items() if key.startswith("backbone.")}
    model.backbone.load_state_dict(state)
    model = model.to(device_of(settings.stage1.device)).eval()
    return model.to(memory_format=torch.channels_last) if settings.stage1.channels_last else model


def _check(
    settings: Settings, run: BackboneRun, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], model: Classifier
) -> None:
    wanted = {f"backbone.{name}": tensor for name, tensor in model.backbone.state_dict().items()}
    if not all(name.startswith("backbone.") for name in tensors):
        head = head_like(tensors, model.classifier.in_features, model.classes)
        wanted |= {f"classifier.{name}": tensor for name, tensor in head.state_dict().items()}
    try:
        checkpoint.check(tensors, wanted)
    except ValueError as error:
        name, found = settings.backbone.full_name, metadata.get("backbone", "an unnamed backbone")
        if found == name:
            raise DataError(f"{run.folder / NAME}: {error}; delete {run.folder} to train it again") from None
        raise LineageError(
            f"backbone {run.folder}: tensors of {found[:60]} do not fit {name} ({error}); set backbone.name to what was trained"
        ) from None


def _identity(settings: Settings, dataset: Dataset, weights: str, width: int) -> Identity:
    geometry = Geometry.of(settings.data.image_size, settings.stage1.augmentation)
    # Views of unaugmented images would be copies of the clean one.
    recipe = Recipe.of(settings)
    views = settings.extract.views if recipe != PLAIN else 0
    shifted = settings.extract.bn == "shifted"
    splits = {
        name: SplitIdentity(
            rows=len(split),
            samples=split.samples_digest(),
            content=split.content_digest(),
            views=views if name == "train" else 0,
        )
        for name, split in dataset.splits.items()
    }
    return Identity(
        classes=dataset.classes,
        splits=splits,
        weights=weights,
        backbone=settings.backbone.full_name,
        layer=LAYER,
        width=width,
        transform={
            "size": geometry.size,
            "resize": geometry.resize,
            "interpolation": "bilinear",
            "mean": list(settings.data.mean),
            "std": list(settings.data.std),
        },
        # Shifted statistics are those of augmented images; `weights` is the digest of the weights before the shift.
        view_transform=describe(recipe, geometry.size) if views or shifted else {},
        views_seed=settings.seed,
        bn=settings.extract.bn,
        autocast=settings.extract.amp,
        dtype=settings.extract.dtype,
    )


def _provenance(settings: Settings, run: BackboneRun) -> Provenance:
    return Provenance(
        name=settings.name,
        created=now(),
        author=author(),
        versions={"coattail": coattail_version(), "torch": torch.__version__, "torchvision": torchvision.__version__},
        device=str(device_of(settings.stage1.device)),
        batch_size=settings.extract.batch_size,
        backbone_run=run.folder.name,
        settings=_made_with(settings, run),
    )


def _made_with(settings: Settings, run: BackboneRun) -> dict[str, Any]:
    """The settings, with those that the backbone was trained with in its own run, which may be another config's."""
    path = run.folder / "config.toml"
    try:
        own = config.load(str(path)).settings if path.is_file() else settings
    except ConfigError as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"backbone {run.folder}: {reason}; delete {run.folder} to train it again") from None
    return settings.model_copy(update={"stage1": own.stage1, "backbone": own.backbone}).model_dump(mode="json")


def _rows(split: Split, classes: tuple[str, ...]) -> pl.DataFrame:
    columns: dict[str, Any] = {
        "row": np.arange(len(split)),
        "sample_id": split.sample_ids,
        "label": split.labels_N,
        "class_name": [classes[label] for label in split.labels_N],
    }
    return pl.DataFrame(columns if split.paths is None else {**columns, "path": split.paths})
