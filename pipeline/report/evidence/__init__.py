"""All that a report's pictures and words rest on, computed once; drawing takes it as it is and computes nothing."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.augment.tail import Tail, tail_of
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.scored import Scored
from pipeline.comparing.divergence import SampleTransformations, example_class, sample_transformations
from pipeline.errors import LineageError
from pipeline.features import Features, coordinates_of, load, training_rows
from pipeline.longtail import group_limits, head_classes, shot_groups
from pipeline.report.evidence.calibration import Calibration, calibrate
from pipeline.report.evidence.confusion import Pair, share_of, worst_pairs
from pipeline.report.evidence.curves import Curve, curve
from pipeline.report.evidence.planes import (
    AugmentationPlane,
    DecisionPlane,
    TrainingPlane,
    augmentation_plane,
    decision_plane,
    training_plane,
)
from pipeline.report.evidence.thumbnails import Error, thumbnails, worst_errors
from pipeline.report.evidence.words import shown_names
from pipeline.report.subject import ArmRun, Subject, backbone_folder, generator_folder, shown_classifier
from pipeline.stg import trained as stg_file

PAIRS = 10
"""Pairs of classes that are listed."""
ERRORS = 12
"""Images that are shown."""
CLASSES_IN_PLANES = 8
"""Classes in the pictures of features: more colours cannot be told apart. Up to 10 are all shown where there are no more."""
LOGITS = 5_000_000
"""Logits of test rows that are held at a time for calibration; of more rows a seeded part is measured."""


@dataclass(frozen=True)
class Rows:
    """The predictions of an arm's first seed for the test rows: class (N,) and confidence from 0 to 1 (N,)."""

    predicted_N: NDArray[np.int64]
    confidence_N: NDArray[np.float64]


@dataclass(frozen=True)
class Swallowed:
    """A pair of classes with its share under the baseline and under the method, in percent; None without that arm's rows."""

    pair: Pair
    baseline: float | None
    method: float | None


@dataclass(frozen=True)
class Evidence:
    """One cache's finished runs, and everything that the report shows of them. Class names are printable and short."""

    about: Subject
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    """Training rows of each class."""
    tested: tuple[int, ...]
    """Test rows of each class."""
    heads: tuple[int, ...]
    limits: tuple[int, int]
    groups: dict[str, list[int]]
    swallowed: tuple[Swallowed, ...]
    """The worst pairs of the baseline, where a larger class takes a smaller one."""
    remaining: tuple[Pair, ...]
    """The worst pairs of the method, whichever is larger."""
    calibrations: tuple[Calibration, ...]
    curves: tuple[Curve, ...]
    errors: tuple[Error, ...]
    images: tuple[bytes, ...]
    no_images: str
    """Why there are none."""
    plane_classes: tuple[int, ...]
    training: TrainingPlane | None
    decisions: DecisionPlane | None
    augmentation: AugmentationPlane | None
    divergence: SampleTransformations | None
    no_generator: str
    """Why nothing of the generator is shown, where it is not."""

    @property
    def method(self) -> ArmRun:
        return self.about.method

    @property
    def baseline(self) -> ArmRun | None:
        return self.about.baseline


def gather(about: Subject) -> Evidence:
    """Compute it all: logits of the test rows anew from the saved classifiers, planes by seeded t-SNE, nothing trained."""
    cache, settings = about.cache, about.settings
    counts, tested = cache.counts("train").tolist(), cache.counts("test").tolist()
    limits = group_limits(counts, settings.longtail.many_above, settings.longtail.few_below)
    test = load(cache, "test", views=False, ram_limit=settings.ram_limit)
    labels_N = test.labels_N.numpy()
    shown = _shown(about)
    rows = {method: _rows(classifier, test) for method, (_, classifier) in shown.items()}
    first = None if about.baseline is None else rows.get(about.baseline.result.method)
    second = rows.get(about.method.result.method)
    swallowing = first or second
    swallowed = [] if swallowing is None else worst_pairs(labels_N, swallowing.predicted_N, PAIRS, counts)
    remaining = [] if second is None else worst_pairs(labels_N, second.predicted_N, PAIRS)
    errors = [] if second is None else worst_errors(labels_N, second.predicted_N, second.confidence_N, ERRORS)
    images, no_images = thumbnails(cache, settings, [("test", error.row) for error in errors])
    tail, no_generator = _tail(about)
    example = None if tail is None else example_class(tail)
    plane_classes = _plane_classes(counts, tested, swallowed, example)
    decided = {arm.name: rows[method].predicted_N for method, (arm, _) in shown.items()}
    coordinates = training_rows(cache, settings, views=False).coordinates if tail is None else tail.train.coordinates
    return Evidence(
        about=about,
        classes=shown_names(cache.classes),
        counts=tuple(counts),
        tested=tuple(tested),
        heads=tuple(head_classes(counts, settings.stg) if tail is None else tail.trained.heads),
        limits=limits,
        groups=shot_groups(counts, *limits),
        swallowed=tuple(_shares(labels_N, pair, first, second) for pair in swallowed),
        remaining=tuple(remaining),
        calibrations=tuple(_calibration(about, arm, classifier, test) for arm, classifier in _compared(about, shown)),
        curves=_curves(about),
        errors=tuple(errors),
        images=tuple(images),
        no_images=no_images,
        plane_classes=tuple(plane_classes),
        training=None if tail is None else training_plane(tail, plane_classes),
        decisions=decision_plane(replace(test, coordinates=coordinates), plane_classes, decided, settings.seed),
        augmentation=None if tail is None or example is None else augmentation_plane(tail, test, example),
        divergence=None if tail is None else sample_transformations(tail),
        no_generator=no_generator,
    )


def _shown(about: Subject) -> dict[str, tuple[ArmRun, Classifier | Scored]]:
    """The arms whose rows are shown, as far as their files hold all of them: baseline, cRT, cRT + STG, method."""
    wanted = [about.baseline, about.arm("crt"), about.arm("crt+stg"), about.method]
    arms = {arm.result.method: arm for arm in wanted if arm is not None}
    results = {method: (arm, shown_classifier(arm, about.cache)) for method, arm in arms.items()}
    return {method: (arm, classifier) for method, (arm, classifier) in results.items() if classifier is not None}


def _compared(
    about: Subject, shown: dict[str, tuple[ArmRun, Classifier | Scored]]
) -> list[tuple[ArmRun, Classifier | Scored]]:
    arms = [arm for arm in (about.baseline, about.method) if arm is not None]
    return [shown[arm.result.method] for arm in arms if arm.result.method in shown]


@torch.no_grad()
def _rows(classifier: Classifier | Scored, test: Features) -> Rows:
    first = classifier.only([0])
    tops = [first.logits(test.gather(0, rows_B))[0].softmax(dim=1).max(dim=1) for rows_B in test.blocks()]
    confidence_N = torch.cat([top.values for top in tops])
    return Rows(torch.cat([top.indices for top in tops]).numpy(), confidence_N.double().numpy())


def _shares(labels_N: NDArray[np.int64], pair: Pair, first: Rows | None, second: Rows | None) -> Swallowed:
    shares = [
        None if rows is None else share_of(labels_N, rows.predicted_N, pair.true, pair.taken)
        for rows in (first, second)
    ]
    return Swallowed(pair, *shares)


@torch.no_grad()
def _calibration(about: Subject, arm: ArmRun, classifier: Classifier | Scored, test: Features) -> Calibration:
    """Of at most LOGITS / C seeded test rows; with the temperature of `val` where the cache has that split."""
    first, cache = classifier.only([0]), about.cache
    limit = max(1, LOGITS // len(cache.classes))

    def logits_and_labels(features: Features) -> tuple[Tensor, Tensor]:
        rows_B = torch.arange(len(features.labels_N))
        if len(rows_B) > limit:
            draw = torch.Generator().manual_seed(about.settings.seed)
            rows_B = torch.randperm(len(rows_B), generator=draw)[:limit].sort().values
        return first.logits(features.gather(0, rows_B))[0], features.labels_N[rows_B]

    has_val = "val" in cache.splits
    val = load(cache, "val", views=False, ram_limit=about.settings.ram_limit) if has_val else None
    fitted_on = None if val is None else logits_and_labels(val)
    return calibrate(arm.name, *logits_and_labels(test), fitted_on, about.settings.seed)


def _tail(about: Subject) -> tuple[Tail | None, str]:
    folder = generator_folder(about)
    if folder is None:
        return None, "No finished run here uses a generator (STG), so what it makes of tail samples is not shown."
    try:
        trained, _ = stg_file.load(folder, about.cache, coordinates_of(about.cache, about.settings))
    except LineageError as error:
        return None, f"What the generator makes of tail samples is not shown: {error}."
    return tail_of(about.settings, about.cache, trained), ""


def _plane_classes(counts: list[int], tested: list[int], pairs: list[Pair], example: int | None) -> list[int]:
    """The classes of the worst pairs, then the smallest and the largest, as many as colours can tell apart; sorted by size."""
    present = [c for c, n in enumerate(counts) if n and tested[c]]
    by_size = sorted(present, key=lambda c: -counts[c])
    if len(present) <= CLASSES_IN_PLANES + 2:
        return by_size
    wanted = [] if example is None else [example]
    wanted += [c for pair in pairs for c in (pair.true, pair.taken)]
    wanted += [by_size[0], by_size[-1], *by_size]
    chosen = list(dict.fromkeys(c for c in wanted if c in set(present)))[:CLASSES_IN_PLANES]
    return sorted(chosen, key=lambda c: -counts[c])


def _curves(about: Subject) -> tuple[Curve, ...]:
    places = {"stage 1, backbone": backbone_folder(about), "stage 2, generator": generator_folder(about)}
    places["stage 3, classifier"] = about.method.folder
    results = [curve(stage, folder) for stage, folder in places.items() if folder is not None]
    return tuple(result for result in results if result is not None)
