"""The loop over the epochs of stage 1: its log, its checkpoints, and going on from them."""

import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.machine import group
from pipeline.progress import Track, on_interrupt, to_go, track
from pipeline.training.checkpoint import Line, Point, resume, save
from pipeline.training.steps import Done, Training
from pipeline.training.tracking import Tracker, tracker


def train_epochs(training: Training, folder: Path, key: str) -> list[Line]:
    """Train to the end of the last epoch, from where the folder's checkpoint stands; log.jsonl gets a line for each epoch.

    A checkpoint is written at each epoch's end, and within epochs that take longer than `stage1.checkpoint_minutes`.
    Raises TrainingError for a loss that is not finite, LineageError for a checkpoint of another key, DataError for one that is
    damaged.
    """
    point = resume(training, folder, key)
    epochs, rows = training.stage1.epochs, len(training.split)
    left = rows * (epochs - point.done.epoch) - point.done.images
    name = training.settings.backbone.name
    tracked = tracker(folder) if group.leads() else Tracker(None)
    with (
        on_interrupt(_next_start(point)) as interrupted,
        track(left, f"training {name}", "images", group.leads()) as bar,
    ):
        while point.done.epoch < epochs:
            for saved in _epoch(training, folder, key, point, bar):
                point = saved
                interrupted(_next_start(saved))
                # After the line that says so an interrupt must find the new text, so the text is set first.
                if group.leads():
                    bar.note(_line(saved, epochs), always=saved.done in (Done(1), Done(epochs)))
            tracked.epoch(point.history[-1])
    return point.history


def _next_start(saved: Point) -> str:
    """A sentence on what the next start of the same command does. `saved` is what the last checkpoint holds."""
    done = saved.done
    if not done.epoch and not done.step:
        return "no checkpoint is written yet, the same command begins this training again"
    where = f"step {done.step} of epoch {done.epoch + 1}" if done.step else f"epoch {done.epoch}"
    return f"the same command goes on after {where}"


def _epoch(training: Training, folder: Path, key: str, point: Point, progress: Track) -> Iterator[Point]:
    """Train on from `point` to its epoch's end; each point that was saved on the way."""
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
            save(training, folder, key, point)
        saved = now
        yield point


def _line(point: Point, epochs: int) -> str:
    done = point.done
    if done.step:
        return f"epoch {done.epoch + 1}/{epochs}, step {done.step}/{done.steps}: loss {done.loss:.3f}, saved"
    last = point.history[-1]
    left = epochs - done.epoch
    ending = f", {to_go(left * last['seconds'])}" if left else ""
    return f"epoch {done.epoch}/{epochs}: loss {last['loss']:.3f}, {last['images_per_second']:,.0f} images/s{ending}"
