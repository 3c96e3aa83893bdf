"""Stage 1, the second half: a frozen backbone's features of every split -> a feature cache."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import torchvision
from torch import Tensor

from cache import CacheWriter, Provenance, catalog, manifest
from cache.errors import CacheStorage
from cache.format.layout import MAPS, array_names, view_names
from pipeline.artefacts import folders
from pipeline.artefacts.authorship import author, coattail_version, now
from pipeline.backbones.classifier import ImageClassifier, linear_form
from pipeline.backbones.inference import blocks, outputs, reestimate
from pipeline.backbones.layers import LAYER
from pipeline.backbones.maps import LastMap
from pipeline.errors import ConfigError, DataError
from pipeline.images.dataset import Dataset, Split
from pipeline.images.transforms.views import recipes
from pipeline.machine.device import device_of, keep_freed_memory, on_this_machine, say_emulated
from pipeline.machine.rank import rank, world
from pipeline.progress import note, on_interrupt, track
from pipeline.rng import derive
from pipeline.settings import Settings, load
from pipeline.stage1_backbone import BackboneRun
from pipeline.stage1_identity import frozen_backbone

CLEAN = "clean"
KEPT = "the features that are written stay, the same command computes the others"
"""The message of an interrupted extraction: what its next start does."""


def extract(settings: Settings, run: BackboneRun, stores: Path) -> Path | None:
    """Dump every split, clean and in the further views that `extract` asks for; the cache's folder.

    With `extract.maps` the last feature maps of the clean images follow, in a pass of their own.

    Where a cache of equal identity is published, nothing is computed; where one was begun, only what it lacks. A view of a
    sample depends on `seed`, the view's number and the sample's row alone. One of several processes (`ranks`) writes its own
    shards and returns None; the first waits for the others, writes what one that died has left, and returns the folder.
    Raises LineageError where the run's tensors do not fit the settings' backbone, DataError where its files are damaged, and
    CacheCorrupt where the published cache is damaged.
    """
    first, settings = rank() == 0, on_this_machine(settings)
    dataset, model, tensors, identity = frozen_backbone(settings, run, note if first else lambda text: None)
    path = catalog.published(stores, identity.key())
    if path is not None and first and (unproved := catalog.prove(path)):
        note(unproved)
    if path is None:
        if first:
            say_emulated(settings.extract.amp, device_of(settings.stage1.device), "extract.amp")
        if settings.extract.bn == "shifted":
            reestimate(model.backbone, dataset.splits["train"], settings, "balanced")
        provenance = _provenance(settings, run)
        with on_interrupt(KEPT):
            for worker in range(world()) if first else [rank()]:
                with CacheWriter(stores, identity, provenance, worker=worker, workers=world(), note=note) as writer:
                    _fill(writer, settings, dataset, model, tensors)
                    path = writer.publish_if_last()
    if first and path is None:
        raise CacheStorage(
            f"cache {identity.key()[:12]}: a shard was changed after it was written; run the command again"
        )
    return path if first else None


def _fill(
    writer: CacheWriter, settings: Settings, dataset: Dataset, model: ImageClassifier, tensors: Mapping[str, Tensor]
) -> None:
    """Write what the writer's worker owns."""
    for name, split in dataset.splits.items():
        writer.write_rows(name, _rows(split, dataset.classes))
    # The classifier reads the last pooled feature and no other.
    if "classifier.weight" in tensors and writer.identity.layer == LAYER:
        writer.write_classifier({name: tensor.numpy() for name, tensor in linear_form(tensors).items()})
    _dump(writer, settings, dataset, model)


def _dump(writer: CacheWriter, settings: Settings, dataset: Dataset, model: ImageClassifier) -> None:
    keep_freed_memory()
    recipe_of = {
        (name, view): recipe
        for name, identity in writer.identity.splits.items()
        for view, recipe in zip(view_names(identity.views), recipes(settings, name), strict=True)
    }
    views = [(name, view) for name in writer.identity.splits for view in array_names(writer.identity, name)]
    shards = [shard for name, view in views for shard in writer.pending(name, view)]
    for name in {shard.split for shard in shards}:
        dataset.splits[name].images.prepare()
    total = sum(shard.stop - shard.start for shard in shards)
    part = "" if writer.workers == 1 else f", worker {writer.worker} of {writer.workers}"
    with track(total, f"extracting {settings.backbone.name}{part}", "images") as progress:
        for shard in shards:
            module = LastMap(model.backbone) if shard.view == MAPS else model.backbone
            recipe = recipe_of[shard.split, CLEAN if shard.view == MAPS else shard.view]
            seed = derive(settings.seed, "view", shard.view)
            rows = blocks(shard.start, shard.stop, settings.extract.batch_size)
            split = dataset.splits[shard.split]
            features = []
            for features_BD in outputs(module, split, rows, settings.data, settings.extract.amp, recipe, seed):
                features.append(features_BD.numpy())
                progress.advance(len(features_BD))
            writer.write(shard, np.concatenate(features))


def _provenance(settings: Settings, run: BackboneRun) -> Provenance:
    return manifest.provenance(
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
        own = settings
        if path.is_file():
            own = load.load(str(path)).settings
            folders.prove_settings(run.folder, own, run.metrics.get("settings") or {})
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
