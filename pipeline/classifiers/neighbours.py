"""Nearest neighbours with balanced votes, and nearest class means in both metrics. Pure."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.classifiers.whitening import Whitening, class_means, fit_whitening

METRICS = ("l2", "cosine")

BLOCK_VALUES = 1 << 24
"""Distances that are held at a time, 64 MiB."""

LEAST_VOTE = 1e-6
"""A class without a vote has its logarithm: softmax of the scores is the share of votes."""


def nearest_mean(features_ND: Tensor, labels_N: Tensor, classes: int, metric: str = "l2") -> tuple[Tensor, Tensor]:
    """Weight (C, D) and bias (C,) on raw features whose argmax is the nearest class mean in standardised columns.

    In l2, w = m and b = -|m|^2 / 2; in cosine, the direction of the mean of the rows' directions, b = 0. A class without rows
    gets bias -inf. (`post_hoc.nearest_class_mean` takes raw features, whose offset counts.)
    """
    if metric not in METRICS:
        raise ValueError(f"nearest_mean: unknown metric {metric!r}; wanted {' or '.join(METRICS)}")
    coordinates = fit_whitening(features_ND, labels_N, classes, shrinkage=None)
    columns_ND = coordinates.apply(features_ND)
    if metric == "cosine":
        columns_ND = functional.normalize(columns_ND, dim=1)
    mean_CD, count_C = class_means(columns_ND, labels_N, classes)
    weight_CD = mean_CD if metric == "l2" else functional.normalize(mean_CD, dim=1)
    bias_C = -0.5 * mean_CD.square().sum(dim=1) if metric == "l2" else torch.zeros(classes, dtype=torch.float64)
    return coordinates.fold(weight_CD, bias_C.masked_fill(count_C == 0, -torch.inf))


@dataclass(frozen=True)
class Neighbours:
    """Training rows in standardised columns (N, D), labels (N,), and how many of the nearest vote."""

    coordinates: Whitening
    columns_ND: Tensor
    labels_N: Tensor
    classes: int
    neighbours: int

    def scores(self, features_BD: Tensor) -> Tensor:
        """Raw features (B, D) -> log share of votes (B, C), float32: a neighbour of class c has a vote of 1 / n_c.

        Euclidean distance; of equally far rows the first are taken.
        """
        count_C = torch.bincount(self.labels_N, minlength=self.classes)
        vote_N = 1 / count_C[self.labels_N].float()
        square_N = self.columns_ND.square().sum(dim=1)
        blocks = []
        for block_BD in features_BD.split(max(1, BLOCK_VALUES // len(self.labels_N))):
            distance_BN = square_N - 2 * self.coordinates.apply(block_BD) @ self.columns_ND.T
            nearest_BK = distance_BN.topk(self.neighbours, dim=1, largest=False).indices
            votes_BC = torch.zeros(len(block_BD), self.classes)
            votes_BC.scatter_add_(1, self.labels_N[nearest_BK], vote_N[nearest_BK])
            share_BC = votes_BC / votes_BC.sum(dim=1, keepdim=True)
            blocks.append(share_BC.clamp(min=LEAST_VOTE).log().masked_fill(count_C == 0, -torch.inf))
        return torch.cat(blocks)


def fit_neighbours(features_ND: Tensor, labels_N: Tensor, classes: int, neighbours: int = 10) -> Neighbours:
    """A vote of the nearest rows, at most as many as there are."""
    coordinates = fit_whitening(features_ND, labels_N, classes, shrinkage=None)
    number = min(neighbours, len(labels_N))
    return Neighbours(coordinates, coordinates.apply(features_ND), labels_N, classes, number)
