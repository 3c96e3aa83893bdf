"""The loop over the epochs of stage 1: its log, its checkpoints, and going on from them."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline import checkpoint, group, runs
from pipeline.errors import DataError, LineageError
from pipeline.progress import Track, note, track
from pipeline.training import Done, Training

CHECKPOINT = "checkpoint.safetensors"

Kind = TypeVar("Kind")
Line = dict[str, float]
"""A finished epoch in log.jsonl: epoch (1-based), mean loss, seconds, images a second."""
LINE = {"epoch", "loss", "seconds", "images_per_second"}


@dataclass(frozen=True)
class Point:
    """Where a run stands: lines of its finished epochs, what is done of the next one, and the seconds that took."""

    history: list[Line]
    done: Done
    seconds: float = 0.0


def train_epochs(training: Training, folder: Path, key: str) -> list[Line]:
    """Train to the end of the last epoch, from where the folder's checkpoint stands; a line for each epoch.

    A checkpoint is written at each epoch's end, and within epochs that take longer than `stage1.checkpoint_minutes`.
    Raises TrainingError for a loss that is not finite, LineageError for a checkpoint of another key, DataError for one that is
    damaged.
    """
    point = _resume(training, folder, key)
    epochs, rows = training.stage1.epochs, len(training.split)
    left = rows * (epochs - point.done.epoch) - point.done.images
    with track(left, f"training {training.settings.backbone.name}", "images") as progress:
        while point.done.epoch < epochs:
            point = _epoch(training, folder, key, point, progress)
    return point.history


def _epoch(training: Training, folder: Path, key: str, point: Point, progress: Track) -> Point:
    history = point.history
    saved = time.monotonic()
    started = saved - point.seconds
    for done in training.epoch(point.done, progress):
        progress.detail(f"loss {done.loss:.3f}")
        now = time.monotonic()
        if done.whole:
            seconds = now - started
            line = {"epoch": done.epoch + 1, "loss": done.loss, "seconds": seconds}
            history = [*history, {**line, "images_per_second": len(training.split) / seconds}]
            point = Point(history, Done(done.epoch + 1))
        elif now - saved < 60 * training.stage1.checkpoint_minutes:
            continue
        else:
            point = Point(history, done, now - started)
        if group.leads():
            _save(training, folder, key, point)
            progress.note(_line(point, training.stage1.epochs))
        saved = now
    return point


def _save(training: Training, folder: Path, key: str, point: Point) -> None:
    tensors = training.state()
    text = {"key": key, "point": json.dumps(asdict(point)), "scale": json.dumps(training.scale())}
    checkpoint.save(folder / CHECKPOINT, tensors, {**text, "digest": checkpoint.digest(tensors)})
    runs.write_text(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in point.history))


def _resume(training: Training, folder: Path, key: str) -> Point:
    """Where the checkpoint stands, to which the training is put back; the start where there is none."""
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
        if metadata.get("digest", found := checkpoint.digest(tensors)) != found:
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
    """The point in a checkpoint's metadata; ValueError for one that this training does not come by."""
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
    """The loss scale in a checkpoint's metadata, of which but two numbers change; ValueError for one of another kind."""
    found = _parsed(metadata, "scale", dict[str, float])
    if found.keys() != own.keys():
        raise ValueError(f"scale: wanted {', '.join(own) or 'none'}, found {len(found)} numbers")
    if not own:
        return {}
    scale, steps = found["scale"], found["_growth_tracker"]
    if not (0 < scale < math.inf and 0 <= steps <= own["growth_interval"]):
        raise ValueError(f"scale: wanted a finite one above 0, found {scale} after {steps} steps")
    return {**own, "scale": scale, "_growth_tracker": int(steps)}


def _line(point: Point, epochs: int) -> str:
    done = point.done
    if done.step:
        return f"epoch {done.epoch + 1}/{epochs}, step {done.step}/{done.steps}: loss {done.loss:.3f}, saved"
    last = point.history[-1]
    left = f"{(epochs - done.epoch) * last['seconds'] / 60:.0f} min to go"
    return f"epoch {done.epoch}/{epochs}: loss {last['loss']:.3f}, {last['images_per_second']:,.0f} images/s, {left}"
