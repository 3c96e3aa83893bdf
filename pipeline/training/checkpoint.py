"""Save and resume within stage 1."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import TypeAdapter, ValidationError

from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.artefacts.folders import CHECKPOINT
from pipeline.errors import DataError, LineageError
from pipeline.progress import note
from pipeline.training.steps import Done, Training

Kind = TypeVar("Kind")
Line = dict[str, float]
"""A finished epoch in log.jsonl: epoch (1-based), mean loss, seconds, images a second."""
MOST_THREADS = 4096
"""A larger number in a checkpoint is none of coattail's."""
LINE = {"epoch", "loss", "seconds", "images_per_second"}


@dataclass(frozen=True)
class Point:
    """Where a run stands: lines of its finished epochs, what is done of the next one, and the seconds that took."""

    history: list[Line]
    done: Done
    seconds: float = 0.0


def save(training: Training, folder: Path, key: str, point: Point) -> None:
    """Write the checkpoint of a training that stands at `point`, and the lines of its finished epochs as log.jsonl."""
    tensors = training.state()
    text = {"key": key, "point": json.dumps(asdict(point)), "scale": json.dumps(training.scale())}
    text["threads"] = str(torch.get_num_threads())
    checkpoint.save(folder / CHECKPOINT, tensors, {**text, "digest": checkpoint.digest(tensors)})
    folders.write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in point.history))


def threads_of(folder: Path) -> tuple[bool, int | None]:
    """Whether the folder has a checkpoint, and the number of threads that made it; None where it does not tell."""
    if not (folder / CHECKPOINT).is_file():
        return False, None
    told = checkpoint.load(folder / CHECKPOINT)[1].get("threads", "")
    return True, int(told) if told.isdecimal() and 0 < int(told) <= MOST_THREADS else None


def resume(training: Training, folder: Path, key: str) -> Point:
    """Put the training back to where the folder's checkpoint stands; that point. Without a checkpoint, the start.

    Raises LineageError for a checkpoint of another key, DataError for one that is damaged.
    """
    if not (folder / CHECKPOINT).is_file():
        return Point([], Done(0))
    tensors, metadata = checkpoint.load(folder / CHECKPOINT)
    if metadata.get("key") != key:
        raise LineageError(
            f"{folder / CHECKPOINT}: of other settings or images (key {metadata.get('key', '?')[:12]}, wanted {key[:12]}); "
            "delete it, or give a new run folder"
        )
    try:
        point = _point(metadata, training)
        checkpoint.check(tensors, *training.expected(point.done))
        # Earlier versions saved none.
        if metadata.get("digest", digest := checkpoint.digest(tensors)) != digest:
            raise ValueError("its tensors are not the ones that were saved")
        training.restore(tensors, _scale(metadata, training.scale()))
    except ValueError as error:
        raise DataError(f"{folder / CHECKPOINT}: {error}; delete the file to begin this run again") from None
    where = (
        f"epoch {point.done.epoch}"
        if not point.done.step
        else f"step {point.done.step} of epoch {point.done.epoch + 1}"
    )
    note(f"going on after {where}: {folder}")
    return point


def _parsed(metadata: Mapping[str, str], name: str, kind: type[Kind]) -> Kind:
    try:
        return TypeAdapter(kind).validate_json(metadata.get(name, ""), strict=True)
    except ValidationError as error:
        raise ValueError(f"{name}: not as it is saved ({error.errors()[0]['msg']})") from None


def _point(metadata: Mapping[str, str], training: Training) -> Point:
    """The point in a checkpoint's metadata. Raises ValueError where this training never stands at such a point."""
    point = _parsed(metadata, "point", Point)
    done, lines = point.done, point.history
    if not training.reaches(done):
        raise ValueError(
            f"point: wanted one on the way through {training.stage1.epochs} epochs, found {done.epoch} and {done.step} of "
            f"{done.steps} steps, {done.images} images"
        )
    if [line.get("epoch") for line in lines] != [*range(1, done.epoch + 1)] or any(
        line.keys() != LINE for line in lines
    ):
        raise ValueError(f"point: wanted a line for each of {done.epoch} epochs, found {len(lines)}, or others")
    if not all(
        map(math.isfinite, [point.seconds, done.loss_sum, *(value for line in lines for value in line.values())])
    ):
        raise ValueError("point: wanted finite numbers, found others")
    return point


def _scale(metadata: Mapping[str, str], own: dict[str, float]) -> dict[str, float]:
    """The state of fp16's loss scale in a checkpoint's metadata; only two of its numbers change in training.

    Raises ValueError where its names are not those of `own`, or the two numbers are out of range.
    """
    saved = _parsed(metadata, "scale", dict[str, float])
    if saved.keys() != own.keys():
        raise ValueError(f"scale: wanted {', '.join(own) or 'none'}, found {len(saved)} numbers")
    if not own:
        return {}
    scale, steps = saved["scale"], saved["_growth_tracker"]
    if not (0 < scale < math.inf and 0 <= steps <= own["growth_interval"]):
        raise ValueError(f"scale: wanted a finite one above 0, found {scale} after {steps} steps")
    return {**own, "scale": scale, "_growth_tracker": int(steps)}
