"""A trained generator on disk: its tensors, its head classes, and the cache it was learnt from."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.artefacts.figures import Digest, Finite, Natural, Seconds
from pipeline.errors import LineageError
from pipeline.features import coordinates_of
from pipeline.settings import Settings
from pipeline.stg.distance import Distance
from pipeline.stg.fit import hidden_layers, is_narrow
from pipeline.stg.generator import SemanticTransformationGenerator
from pipeline.stg.soft import Lenders, SoftGenerator

NAME = "stg.safetensors"


@dataclass(frozen=True)
class TrainedSTG:
    """A generator, the head classes that it borrows from, and their centroids (H, D)."""

    stg: SemanticTransformationGenerator | SoftGenerator
    heads: list[int]
    centroids_HD: Tensor

    def on(self, device: torch.device) -> "TrainedSTG":
        """A copy on another device; itself where it lies there."""
        if self.centroids_HD.device == device:
            return self
        return TrainedSTG(copy.deepcopy(self.stg).to(device), self.heads, self.centroids_HD.to(device))


class STGResult(BaseModel):
    """What metrics.json of a stage-2 run holds; `held_out` is the distance from the closed form."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str = "stg"
    dataset: str
    cache: str
    digest: Digest
    head_classes: list[Natural]
    steps: Natural
    loss: Finite
    held_out: Distance
    settings: dict[str, Any] = {}
    """Every setting that made it, by section."""
    seconds: Seconds


def save(folder: Path, trained: TrainedSTG, settings: Settings, cache: FeatureCache) -> str:
    """Write `stg.safetensors` into the run folder; the digest of its tensors."""
    tensors = {f"stg.{name}": tensor for name, tensor in trained.stg.state_dict().items()}
    tensors |= {"head_classes": torch.tensor(trained.heads), "centroids": trained.centroids_HD}
    metadata = {
        "stage": "stg",
        "cache": cache.key,
        "dataset": cache.manifest.provenance.name,
        "hidden": json.dumps(hidden_layers(trained.centroids_HD.shape[1], settings.stg)),
        "variance": settings.stg.variance,
        "coordinates": coordinates_of(cache, settings),
        **({"similarity": "soft"} if isinstance(trained.stg, SoftGenerator) else {}),
        **({"network": "narrow"} if is_narrow(trained.centroids_HD.shape[1], settings.stg) else {}),
    }
    checkpoint.save(folder / NAME, tensors, metadata)
    return checkpoint.digest(tensors)


def _unfilled(
    state: dict[str, Tensor], metadata: dict[str, str]
) -> tuple[SemanticTransformationGenerator | SoftGenerator, int, int]:
    """An empty generator of the kind and shape that the file describes, with its head classes and width.

    The file may ask for any size. On the `meta` device no more is allocated than its tensors take.
    """
    soft = metadata.get("similarity") == "soft"
    heads, width = state["lender_mean_HD" if soft else "tokens_HD"].shape
    with torch.device("meta"):
        if soft:
            table_HD, rows_H = torch.zeros(heads, width), torch.zeros(heads, dtype=torch.int64)
            return SoftGenerator(Lenders(table_HD, table_HD, rows_H, torch.zeros(width))), heads, width
        hidden = tuple(json.loads(metadata["hidden"]))
        narrow = metadata.get("network") == "narrow"
        generator = SemanticTransformationGenerator(width, heads, hidden, metadata["variance"], offset=narrow)
        return generator, heads, width


def proved(folder: Path) -> STGResult:
    """The figures of a finished stage-2 run. Raises DataError where its generator is not the one that they were measured on."""
    result = folders.read_result(folder, STGResult)
    folders.prove(folder / NAME, checkpoint.digest(checkpoint.load(folder / NAME)[0]), result.digest)
    return result


def load(folder: Path, cache: FeatureCache, coordinates: str) -> tuple[TrainedSTG, str]:
    """The generator of a run folder and its digest.

    Raises LineageError where it was learnt from another cache than the one it is to be used with, DataError where its
    tensors are not those whose digest its run recorded.
    """
    tensors, metadata = checkpoint.load(folder / NAME)
    if metadata.get("cache") != cache.key:
        raise LineageError(
            f"STG {folder}: learnt from cache {metadata.get('cache', '?')[:12]} ({metadata.get('dataset', '?')}), wanted "
            f"{cache.key[:12]} ({cache.manifest.provenance.name}); run train-stg --cache {cache.key[:12]}"
        )
    if metadata.get("coordinates") != coordinates:
        raise LineageError(
            f"STG {folder}: learnt in {metadata.get('coordinates', 'raw')} coordinates, wanted {coordinates}; "
            "run train-stg, then retrain, with one setting of coordinates"
        )
    state = {name.removeprefix("stg."): tensor for name, tensor in tensors.items() if name.startswith("stg.")}
    try:
        stg, heads, width = _unfilled(state, metadata)
        wanted = {f"stg.{name}": tensor for name, tensor in stg.state_dict().items()}
        wanted |= {"head_classes": torch.zeros(heads, dtype=torch.int64), "centroids": torch.zeros(heads, width)}
        checkpoint.check(tensors, wanted)
        heads_H = tensors["head_classes"].tolist()
        if not set(heads_H) <= set(range(len(cache.classes))) or len(set(heads_H)) != heads:
            raise ValueError(
                f"head_classes: wanted {heads} of the {len(cache.classes)} classes, each once, found others"
            )
        stg.load_state_dict(state, assign=True)
        trained = TrainedSTG(stg.float().eval(), heads_H, tensors["centroids"])
    except (KeyError, ValueError, TypeError, RuntimeError, RecursionError, OverflowError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise LineageError(
            f"STG {folder / NAME}: not a generator of this version ({reason}); run train-stg again"
        ) from None
    digest = checkpoint.digest(tensors)
    folders.prove(folder / NAME, digest, folders.read_result(folder, STGResult).digest)
    return trained, digest
