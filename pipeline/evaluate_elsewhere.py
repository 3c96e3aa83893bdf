"""A finished classifier on other labelled images: their classes are found by name, and some may be missing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cache import FeatureCache
from pipeline.artefacts import folders
from pipeline.errors import DataError
from pipeline.evaluate import measured_logits
from pipeline.images.listing import listed
from pipeline.images.sources import load_source
from pipeline.images.sources.source import Raw
from pipeline.images.splits import with_test_split
from pipeline.longtail import Rows
from pipeline.predict import CHUNK, predictor_of
from pipeline.predicting.encoder import Encoder
from pipeline.progress import track
from pipeline.settings import Settings
from pipeline.stage3_record import RetrainResult, summarise


@dataclass(frozen=True)
class LabelledImages:
    """Images of a split, with labels (N,) by the number that the classifier has for a class of that name."""

    name: str
    split: str
    raw: Raw
    labels_N: Rows


@dataclass(frozen=True)
class Elsewhere:
    """The figures, the images that could not be decoded with the reason, and the classes that no image is of."""

    result: RetrainResult
    images: int
    broken: dict[str, str]
    missing: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {"images": self.images, "broken": self.broken, "missing": self.missing, **self.result.model_dump()}

    def lines(self) -> list[str]:
        """For people, under the table."""
        lines = [f"{self.images:,} images of {len(self.result.classes) - len(self.missing)} classes"]
        if self.missing:
            total = len(self.result.classes)
            lines.append(f"no image of {len(self.missing)} of {total} classes: {listed(list(self.missing), 5)}")
        if self.broken:
            texts = [f"{name} ({reason})" for name, reason in self.broken.items()]
            lines.append(f"{len(self.broken)} images cannot be decoded and are left out: {listed(texts)}")
        return lines


def labelled_images(settings: Settings, classes: Sequence[str], split: str | None = None) -> LabelledImages:
    """A split of the images that settings name: the one asked for, else `test`, else all where they are not divided.

    A long tail that the settings ask for is not drawn. Raises DataError for a split that is not there, and for images of a class
    that is not among `classes`.
    """
    source = load_source(settings.data)
    if split == "test":
        source = with_test_split(source, settings.data)
    chosen = split or ("test" if "test" in source.splits else "train")
    if chosen not in source.splits:
        raise DataError(f"--data {settings.name}: no split {chosen!r}, found {', '.join(source.splits)}")
    raw = source.splits[chosen]
    numbers = {name: number for number, name in enumerate(classes)}
    counts_C = np.bincount(raw.labels_N, minlength=len(source.classes))
    strange = [
        f"{name!r} ({counts_C[c]:,})" for c, name in enumerate(source.classes) if counts_C[c] and name not in numbers
    ]
    if strange:
        known = [repr(name) for name in classes]
        raise DataError(
            f"--data {settings.name}: wanted classes of the run by name, such as {listed(known, 3)}, found images of "
            f"{listed(strange, 5)}; rename these classes or take their images out"
        )
    number_C = np.array([numbers.get(name, -1) for name in source.classes], dtype=np.int64)
    return LabelledImages(settings.name, chosen, raw, number_C[raw.labels_N])


def evaluate_images(
    folder: Path, cache: FeatureCache, encoder: Encoder, images: LabelledImages, prior: str | None = None
) -> Elsewhere:
    """The figures of a finished run on these images; groups by the training counts of its cache.

    As in `evaluate_run`, logits are taken as they are: calibration changes no figure but ECE. Raises DataError where no image
    can be decoded.
    """
    started = time.monotonic()
    result = folders.read_result(folder, RetrainResult)
    predictor = predictor_of(folder, cache, prior)
    names = images.raw.paths or images.raw.sample_ids
    parts: list[torch.Tensor] = []
    kept: list[int] = []
    broken: dict[str, str] = {}
    with track(len(names), "images evaluated", "images") as progress:
        for start in range(0, len(names), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(names)))
            features_BD, positions, unreadable = encoder.features(images.raw.take(rows))
            parts.append(predictor.classifier.logits(features_BD.float()))
            kept += [start + position for position in positions]
            broken |= {names[start + position]: reason for position, reason in unreadable.items()}
            progress.advance(len(rows))
    if not kept:
        raise DataError(
            f"--data {images.name}: none of {len(names)} images can be decoded; first: {next(iter(broken.values()), '')}"
        )
    logits_RNC = torch.cat(parts, dim=1)
    if predictor.shift_C is not None:
        logits_RNC = logits_RNC + predictor.shift_C
    labels_N = torch.from_numpy(images.labels_N[kept])
    groups = Settings.model_validate({"longtail": result.settings.get("longtail", {})}).longtail
    measured = measured_logits(logits_RNC, labels_N, images.split, cache.counts("train").tolist(), groups)
    there = {
        "dataset": images.name,
        "split": images.split,
        "seconds": round(time.monotonic() - started, 3),
        "prior": result.prior if prior is None else prior,
        "test_views": 1,
    }
    figures = summarise(measured.metrics, result.seeds, **{**result.beside_figures(), **there})
    present = set(labels_N.tolist())
    missing = tuple(name for number, name in enumerate(result.classes) if number not in present)
    return Elsewhere(figures, len(kept), broken, missing)
