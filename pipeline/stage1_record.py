"""What metrics.json of a stage-1 run records: what made the backbone, and, where it was trained, its figures."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from pipeline.artefacts import folders, tensors
from pipeline.artefacts.figures import Digest, Natural, Percent, Seconds
from pipeline.images.dataset import Dataset
from pipeline.machine.rank import world
from pipeline.settings import Settings
from pipeline.settings.method_names import stage1_method

RECORDED_DATA = {"source", "image_size", "mean", "std"}
"""The settings of `data` that are recorded; where the images lie is in config.toml alone."""
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "classifier.scale", "classifier.norm")
"""How names of tensors end that are not trained, and so are no parameters."""


class BackboneResult(BaseModel):
    """What metrics.json of a stage-1 run holds; a backbone that is taken as it is has no figures, in percent or otherwise."""

    model_config = ConfigDict(frozen=True, extra="allow")

    method: str
    backbone: str
    digest: Digest
    epochs: Natural
    parameters: Natural | None = None
    processes: Natural | None = None
    threads: Natural | None = None
    """Threads of the processor. The order of sums, and so the last bits of the weights, depends on their number."""
    settings: dict[str, Any] | None = None
    """Runs of earlier versions have none."""
    seeds: list[int] | None = None
    classes: list[str] | None = None
    counts: list[Natural] | None = None
    seconds: Seconds | None = None
    accuracy: Percent | None = None
    many: Percent | None = None
    medium: Percent | None = None
    few: Percent | None = None
    balanced_accuracy: Percent | None = None
    ece: Percent | None = None
    per_class: list[Percent | None] | None = None


def recorded(folder: Path) -> dict[str, Any]:
    """The metrics.json of a finished stage-1 run. Raises DataError as `folders.read_result` does."""
    return folders.read_result(folder, BackboneResult).model_dump(mode="json", exclude_unset=True)


def trained_record(
    settings: Settings, dataset: Dataset, history: list[dict[str, float]], state: dict[str, torch.Tensor]
) -> dict[str, Any]:
    """The record of a trained backbone, but for its figures; `history` has a line an epoch, `state` is the model's."""
    return {
        "method": stage1_method(settings),
        "cache": None,
        **_made_with(settings, tensors.digest(state)),
        "parameters": sum(tensor.numel() for name, tensor in state.items() if not name.endswith(BUFFERS)),
        "epochs": len(history),
        "selection": "last epoch",
        "split": "test",
        "classes": list(dataset.classes),
        "counts": dataset.counts(),
        "left_out": dataset.skipped,
        "seconds": round(sum(line["seconds"] for line in history), 3),
    }


def frozen_record(settings: Settings, digest: str) -> dict[str, Any]:
    """The record of a backbone that is taken as it is; `digest` is that of its tensors."""
    return {"method": "frozen", **_made_with(settings, digest), "epochs": 0}


def _made_with(settings: Settings, digest: str) -> dict[str, Any]:
    """What every record has: the settings that decide the weights, and the machine's share in their last bits."""
    sections = settings.model_dump(mode="json", include={"seed", "longtail", "backbone", "stage1"})
    return {
        "dataset": settings.name,
        "seeds": [settings.seed],
        "digest": digest,
        "backbone": settings.backbone.full_name,
        "processes": world(),
        "threads": torch.get_num_threads(),
        "settings": {**sections, "data": settings.data.model_dump(mode="json", include=RECORDED_DATA)},
    }
