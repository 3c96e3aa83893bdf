"""The penalised cross entropy of linear classifiers, many strengths and folds side by side, with its gradient. Pure."""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_VALUES = 1 << 23
"""Logits that are held at a time, 32 MiB."""


@dataclass(frozen=True)
class LogisticLoss:
    """Rows with a column of ones (N, D + 1), labels (N,), each problem's share of each row (P, N) and its strength (P,)."""

    features_ND: Tensor
    labels_N: Tensor
    share_PN: Tensor
    strength_P: Tensor
    softness_PCD: Tensor
    """The inverse of the curvature expected of each class's weights and of its bias."""

    def only(self, kept_P: Tensor) -> "LogisticLoss":
        kept = (field[kept_P] for field in (self.share_PN, self.strength_P, self.softness_PCD))
        return LogisticLoss(self.features_ND, self.labels_N, *kept)

    def soften(self, gradient_PCD: Tensor) -> Tensor:
        """A gradient (P, C, D + 1) times the inverse of the curvature expected."""
        return gradient_PCD * self.softness_PCD

    def size(self, gradient_PCD: Tensor) -> Tensor:
        """Each problem's norm of the gradient, (P,)."""
        return dot(gradient_PCD.flatten(1), self.soften(gradient_PCD).flatten(1)).sqrt()

    def at_the_prior(self, prior_PC: Tensor) -> Tensor:
        """The gradient (P, C, D + 1) at zero weights and the prior's biases: every row has the prior's probabilities there."""
        gradient_PCD = prior_PC.float()[..., None] * (self.share_PN @ self.features_ND)[:, None]
        for gradient_CD, share_N in zip(gradient_PCD, self.share_PN, strict=True):
            gradient_CD.index_add_(0, self.labels_N, share_N[:, None] * self.features_ND, alpha=-1)
        return gradient_PCD

    def loss(self, parameters_PCD: Tensor) -> tuple[Tensor, Tensor]:
        """Each problem's loss (P,), float64, and gradient (P, C, D + 1)."""
        problems, classes, width = parameters_PCD.shape
        weight_PCD = parameters_PCD.clone()
        weight_PCD[..., -1] = 0
        # In float64: steps near the minimum are compared by the loss's last digits.
        loss_P = 0.5 * self.strength_P * weight_PCD.double().square().sum(dim=(1, 2))
        gradient_PCD = self.strength_P.float()[:, None, None] * weight_PCD
        flat_KD, flat_gradient_KD = parameters_PCD.view(-1, width), gradient_PCD.view(-1, width)
        for rows_B in torch.arange(len(self.labels_N)).split(max(1, BLOCK_VALUES // (problems * classes))):
            block = slice(int(rows_B[0]), int(rows_B[-1]) + 1)
            features_BD, share_BP = self.features_ND[block], self.share_PN[:, block].T
            logits_BPC = (features_BD @ flat_KD.T).view(-1, problems, classes)
            logits_BPC -= logits_BPC.amax(dim=2, keepdim=True)
            picked_BP1 = self.labels_N[block, None, None].expand(-1, problems, 1)
            true_BP = logits_BPC.gather(2, picked_BP1)[..., 0]
            total_BP = logits_BPC.exp_().sum(dim=2)
            loss_P += (share_BP * (total_BP.log() - true_BP)).double().sum(dim=0)
            logits_BPC *= (share_BP / total_BP)[..., None]
            logits_BPC.scatter_add_(2, picked_BP1, -share_BP[..., None])
            flat_gradient_KD.addmm_(logits_BPC.view(len(rows_B), -1).T, features_BD)
        return loss_P, gradient_PCD


def dot(first_AK: Tensor, second_AK: Tensor) -> Tensor:
    """The product of each problem's two vectors, (A,). One pass over memory each; a batched product is far slower."""
    return torch.stack([torch.dot(first_K, second_K) for first_K, second_K in zip(first_AK, second_AK, strict=True)])
