"""Nearest neighbours with balanced votes."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.classifiers.architecture import Architecture
from pipeline.classifiers.whitening import fit_whitening

BLOCK_VALUES = 1 << 24
"""Distances between rows that are held in memory at a time: 64 MiB."""

LEAST_VOTE = 1e-6
"""The share of votes that a class without any is given, so that its score, a logarithm, is finite."""


class Votes(Architecture):
    """Training rows in standardised columns (N, D) and their labels (N,); `neighbours` of them, the nearest, vote.

    A score is the logarithm of a class's share of the votes. A neighbour of class c counts 1 / n_c, n_c being the class's
    training rows, so that large classes do not outvote small ones. Distance is Euclidean. The bias is 0, or -inf for a class
    without training rows. Raises ValueError for a label that is no class, and for more neighbours than rows.
    """

    NAME = "knn"
    SHAPES: ClassVar = {"rows": "ND", "labels": "N", "bias": "C", "neighbours": ""}
    WHOLE: ClassVar = frozenset({"labels", "neighbours"})

    rows: Tensor
    labels: Tensor
    bias: Tensor
    vote_N: Tensor
    square_N: Tensor

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        classes, number = self.sizes["C"], self.sizes["N"]
        self._voters = int(tensors["neighbours"])
        if not 1 <= self._voters <= number:
            raise ValueError(f"neighbours: wanted 1 to {number}, the rows, found {self._voters}")
        if not bool(((self.labels >= 0) & (self.labels < classes)).all()):
            raise ValueError(f"labels: wanted 0 to {classes - 1}, found others")
        count_C = torch.bincount(self.labels, minlength=classes)
        self.register_buffer("vote_N", 1 / count_C[self.labels].float(), persistent=False)
        self.register_buffer("square_N", self.rows.square().sum(dim=1), persistent=False)

    @property
    def rows_at_a_time(self) -> int:
        return max(1, BLOCK_VALUES // self.sizes["N"])

    def scores(self, inputs_BD: Tensor) -> Tensor:
        distance_BN = self.square_N - 2 * inputs_BD @ self.rows.T
        nearest_BK = distance_BN.topk(self._voters, dim=1, largest=False).indices
        none_BC = inputs_BD.new_zeros(inputs_BD.shape[0], self.bias.shape[0])
        votes_BC = none_BC.scatter_add(1, self.labels[nearest_BK], self.vote_N[nearest_BK])
        share_BC = votes_BC / votes_BC.sum(dim=1, keepdim=True)
        return share_BC.clamp(min=LEAST_VOTE).log() + self.bias


def fit_neighbours(features_ND: Tensor, labels_N: Tensor, classes: int, neighbours: int = 10) -> Votes:
    """The `neighbours` nearest training rows vote; all of them where there are fewer."""
    columns = fit_whitening(features_ND, labels_N, classes, shrinkage=None).columns
    count_C = torch.bincount(labels_N, minlength=classes)
    tensors = {
        "rows": columns.apply(features_ND),
        "labels": labels_N,
        "bias": torch.zeros(classes).masked_fill(count_C == 0, -torch.inf),
        "neighbours": torch.tensor(min(neighbours, len(labels_N))),
    }
    return Votes.on_these(tensors, features_ND.shape[1]).behind(columns)
