"""The Semantic Transformation Generator (paper, section 3.3): its targets (Eq. 1), its memory, the network (Eq. 2).

The pairwise set of Eq. 1 need not be formed: mu_i = mean_y - a_i and Sigma_i = Var_y, both segment sums in O(P D).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

VARIANCE_FLOOR = 1e-6
"""Added before a logarithm: a channel that a ReLU holds at zero has no variance."""
LOG_VARIANCE_RANGE = (-20.0, 10.0)


class SemanticTransformationGenerator(nn.Module):
    """Eq. 2: (features_BD, head_index_B) -> (mean_BD, variance_BD) of each sample's semantic transformations.

    Two MLPs, D -> 2D -> 2D -> D, BatchNorm and ReLU on the hidden layers, read feature + token of the head class.

    With `offset`, which is no part of the paper, the first network gives mean_y and the feature is taken off it. By Eq. 1 the
    mean is mean_y - a_i, and a narrow network cannot carry a_i through.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: tuple[float, ...] = (2.0, 2.0),
        variance: str = "log",
        token_std: float = 0.02,
        offset: bool = False,
    ) -> None:
        super().__init__()
        self.variance, self.offset = variance, offset
        self.tokens_HD = nn.Parameter(torch.randn(heads, width) * token_std)
        self.mean_net = _mlp(width, hidden)
        self.variance_net = _mlp(width, hidden)

    def forward(self, features_BD: Tensor, head_index_B: Tensor) -> tuple[Tensor, Tensor]:
        inputs_BD = features_BD.float() + self.tokens_HD[head_index_B]
        raw_BD = self.variance_net(inputs_BD)
        variance_BD = (
            functional.softplus(raw_BD) if self.variance == "softplus" else raw_BD.clamp(*LOG_VARIANCE_RANGE).exp()
        )
        mean_BD = self.mean_net(inputs_BD)
        return mean_BD - features_BD.float() if self.offset else mean_BD, variance_BD


def _mlp(width: int, hidden: tuple[float, ...]) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = width
    for factor in hidden:
        outputs = max(1, round(factor * width))
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return nn.Sequential(*layers, nn.Linear(inputs, width))


def _log(variance: Tensor) -> Tensor:
    return torch.log(variance + VARIANCE_FLOOR)


def regression_loss(mean: Tensor, variance: Tensor, target_mean: Tensor, target_variance: Tensor, kind: str) -> Tensor:
    """Distance of predicted to target Gaussians, all (B, D) -> scalar, averaged over rows and channels.

    `mse` is the paper's regression taken literally; `mse-log` compares log variances, so that small ones count.
    `kl` is KL(target || predicted); `nll` the expected negative log likelihood, `kl` plus the target's entropy.
    """
    if kind == "mse":
        return functional.mse_loss(mean, target_mean) + functional.mse_loss(variance, target_variance)
    if kind == "mse-log":
        return functional.mse_loss(mean, target_mean) + functional.mse_loss(_log(variance), _log(target_variance))
    if kind == "l1":
        return functional.l1_loss(mean, target_mean) + functional.l1_loss(_log(variance), _log(target_variance))
    spread = variance + VARIANCE_FLOOR
    expected = 0.5 * (spread.log() + (target_variance + (target_mean - mean).square()) / spread)
    if kind == "nll":
        return expected.mean()
    if kind == "kl":
        return (expected - 0.5 * (1 + _log(target_variance))).mean()
    raise ValueError(f"regression_loss: unknown kind {kind!r}; wanted mse-log, mse, kl, nll or l1")
