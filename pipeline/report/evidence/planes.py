"""The points of the report's pictures of features: the paper's Figures 1, 3 and 4 on the user's own features."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.augment.tail import Tail
from pipeline.features import Features
from pipeline.report.evidence.augmented import class_level, in_coordinates, sample_level, some_rows
from pipeline.report.evidence.embedding import Points, decision_map, extent, main_plane, tsne

TRAIN_ROWS = 60
"""Training rows of a class in the picture of training features, at most."""
AUGMENTED = 30
"""Augmented samples of a tail class there."""
TEST_ROWS = 60
"""Test rows of a class in the maps of decisions, at most."""
REPEATS = 60
"""Augmented samples of a training row in the picture of class-level against sample-level augmentation."""
AROUND = 40
"""Training rows of each head class, and test rows of the tail class, there."""
FEWEST_POINTS = 5
"""Points that t-SNE wants."""


@dataclass(frozen=True)
class TrainingPlane:
    """Training features of some classes, and augmented samples of those that are tail, in one plane of t-SNE."""

    points_N2: Points
    labels_N: NDArray[np.int64]
    augmented_N: NDArray[np.bool_]


@dataclass(frozen=True)
class DecisionPlane:
    """Test features of some classes in a plane of t-SNE, and what each method decides there; `maps` begin with the truth."""

    points_N2: Points
    labels_N: NDArray[np.int64]
    extent: tuple[float, float, float, float]
    maps: dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class AugmentationPlane:
    """One tail class and the head classes next to it in the plane of their main directions, with both augmentations."""

    tail_class: int
    heads: tuple[int, ...]
    head_points: tuple[Points, ...]
    train_points: Points
    test_points: Points
    class_points: Points
    sample_points: Points
    kept: float
    """Percent of the variance of these rows that the two directions keep."""


def training_plane(tail: Tail, classes: list[int]) -> TrainingPlane | None:
    """At most TRAIN_ROWS real rows of each class and AUGMENTED samples of each tail class; None for too few points."""
    seed, labels_N = tail.settings.seed, tail.train.labels_N
    rows_B = some_rows(labels_N, classes, TRAIN_ROWS, seed, "training plane")
    of_tail = [some_rows(labels_N, [c], AUGMENTED, seed, "training plane") for c in classes if c in set(tail.classes)]
    repeated = [rows_K.repeat(1 + AUGMENTED // max(1, len(rows_K)))[:AUGMENTED] for rows_K in of_tail if len(rows_K)]
    drawn_A = torch.cat(repeated) if repeated else torch.zeros(0, dtype=torch.long)
    if len(rows_B) < FEWEST_POINTS:
        return None
    features = [tail.train.gather(0, rows_B)]
    features += [sample_level(tail, drawn_A, "training plane")] if len(drawn_A) else []
    points_N2 = tsne(torch.cat(features).numpy(), seed)
    labels = torch.cat([labels_N[rows_B], labels_N[drawn_A]]).numpy()
    return TrainingPlane(points_N2, labels, np.arange(len(labels)) >= len(rows_B))


def decision_plane(
    test: Features, classes: list[int], predicted: dict[str, NDArray[np.int64]], seed: int
) -> DecisionPlane | None:
    """At most TEST_ROWS test rows of each class; `predicted`: each method's classes of all test rows. None for too few."""
    rows_B = some_rows(test.labels_N, classes, TEST_ROWS, seed, "decision plane")
    if len(rows_B) < FEWEST_POINTS:
        return None
    points_N2 = tsne(test.gather(0, rows_B).numpy(), seed)
    labels = test.labels_N[rows_B].numpy()
    decided = {"truth": labels} | {name: predicted_N[rows_B.numpy()] for name, predicted_N in predicted.items()}
    maps = {name: decision_map(points_N2, decided_N) for name, decided_N in decided.items()}
    return DecisionPlane(points_N2, labels, extent(points_N2), maps)


def augmentation_plane(tail: Tail, test: Features, tail_class: int) -> AugmentationPlane:
    """A tail class, the two head classes nearest to most of its rows, and augmented samples of its rows by either way."""
    seed, train = tail.settings.seed, tail.train
    rows_B = some_rows(train.labels_N, [tail_class], 6, seed, "augmentation plane")
    heads = _nearest_two(tail, tail_class)
    head_rows = [some_rows(train.labels_N, [c], AROUND, seed, "augmentation plane") for c in heads]
    test_rows = some_rows(test.labels_N, [tail_class], AROUND, seed, "augmentation plane")
    real = [train.gather(0, rows_K) for rows_K in [*head_rows, rows_B]]
    real.append(in_coordinates(tail, test).gather(0, test_rows))
    all_rows = torch.cat(real).double().numpy()
    mean_D, plane_D2 = main_plane(all_rows)
    spread = ((all_rows - mean_D) ** 2).sum()
    inside = (((all_rows - mean_D) @ plane_D2) ** 2).sum()
    repeated_A = rows_B.repeat_interleave(REPEATS)
    drawn = [make(tail, repeated_A, "augmentation plane") for make in (class_level, sample_level)]
    projected = [(rows.double().numpy() - mean_D) @ plane_D2 for rows in [*real, *drawn]]
    *head_points, train_points, test_points, class_points, sample_points = projected
    return AugmentationPlane(
        tail_class,
        tuple(heads),
        tuple(head_points),
        train_points,
        test_points,
        class_points,
        sample_points,
        100 * float(inside / max(spread, 1e-12)),
    )


def _nearest_two(tail: Tail, tail_class: int) -> list[int]:
    """The head classes that lend to most rows of the class, then those with the nearest mean, two of them."""
    nearest = tail.nearest_N[tail.train.labels_N == tail_class]
    lending = torch.bincount(nearest, minlength=len(tail.train.counts_C))
    rows_N = (tail.train.labels_N == tail_class).nonzero()[:, 0]
    mean_D = tail.train.gather(0, rows_N).mean(dim=0)
    distance_H = (tail.trained.centroids_HD - mean_D).norm(dim=1).tolist()
    by_distance = dict(zip(tail.trained.heads, distance_H, strict=True))
    return sorted(tail.trained.heads, key=lambda c: (-int(lending[c]), by_distance[c]))[:2]
