"""Nearest neighbours with balanced votes. Pure."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.classifiers.whitening import Whitening, fit_whitening

BLOCK_VALUES = 1 << 24
"""Distances between rows that are held in memory at a time: 64 MiB."""

LEAST_VOTE = 1e-6
"""The share of votes that a class without any is given, so that its score, a logarithm, is finite."""


@dataclass(frozen=True)
class Neighbours:
    """Training rows in standardised columns (N, D), their labels (N,), and how many of the nearest rows vote."""

    coordinates: Whitening
    columns_ND: Tensor
    labels_N: Tensor
    classes: int
    neighbours: int

    def scores(self, features_BD: Tensor) -> Tensor:
        """Raw features (B, D) -> logarithm of each class's share of the votes (B, C), float32.

        A neighbour of class c counts 1 / n_c, n_c being the class's training rows, so that large classes do not outvote small
        ones. Distance is Euclidean. A class without training rows has -inf.
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
    """The `neighbours` nearest training rows vote; all of them where there are fewer."""
    coordinates = fit_whitening(features_ND, labels_N, classes, shrinkage=None)
    number = min(neighbours, len(labels_N))
    return Neighbours(coordinates, coordinates.apply(features_ND), labels_N, classes, number)
