"""BBN (Zhou et al., 2020): one network whose last block is two, one learning from rows as they come, one from reversed ones."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.batches import Batch
from pipeline.rng import generator
from pipeline.samplers import RowSampler


class Bilateral(nn.Module):
    """Shared blocks, then a branch each: (B, 3, S, S) -> (B, 2D), D the width of the network it is made from."""

    def __init__(self, network: nn.Module, other: nn.Module) -> None:
        """Takes all of `network` but its last block, that block, and the last block of `other`, drawn apart."""
        super().__init__()
        last, blocks = _last_stage(network)
        self.conventional = blocks[-1]
        self.reversed = _last_stage(other)[1][-1]
        setattr(network, last, blocks[:-1])
        self.shared = network
        self.width = 2 * int(network.width)  # type: ignore[arg-type]

    def forward(self, x: Tensor, share: Tensor | None = None) -> Tensor:
        """Without `share`, both branches' features of the same images: l = 0.5, times 2.

        With it, 2B images, conventional then reversed: 2 l f_c beside 2 (1 - l) f_r, (B, 2D).
        """
        x = self.shared.map(x)  # type: ignore[operator]
        first, second = (x, x) if share is None else x.chunk(2)
        conventional_BD, reversed_BD = self.conventional(first).mean((2, 3)), self.reversed(second).mean((2, 3))
        if share is not None:
            conventional_BD, reversed_BD = 2 * share * conventional_BD, 2 * (1 - share) * reversed_BD
        return torch.cat([conventional_BD, reversed_BD], dim=1)


def _last_stage(network: nn.Module) -> tuple[str, nn.Sequential]:
    name = "layer4" if hasattr(network, "layer4") else "layer3"
    return name, getattr(network, name)


def conventional_share(epoch: int, epochs: int) -> float:
    """l = 1 - (epoch / epochs)^2 of a 0-based epoch: from the conventional branch to the reversed one (section 4.3)."""
    return 1 - (epoch / epochs) ** 2


def with_reversed(plan: list[Batch], labels_N: Tensor, seed: int, epoch: int) -> list[Batch]:
    """The batches with rows of the reversed sampler as partners.

    Row r drawn for the k-th time in the epoch is given as r + k N, which means an augmentation of its own.
    """
    sizes = [len(batch.rows_B) for batch in plan]
    drawn_M = RowSampler(labels_N, "reversed").draw((sum(sizes),), generator(seed, "reversed", epoch))
    order_M = torch.argsort(drawn_M, stable=True)
    count_N = torch.bincount(drawn_M, minlength=len(labels_N))
    start_N = torch.cumsum(count_N, 0) - count_N
    times_M = torch.empty_like(drawn_M)
    times_M[order_M] = torch.arange(1, len(drawn_M) + 1) - start_N[drawn_M[order_M]]
    rows = (drawn_M + times_M * len(labels_N)).split(sizes)
    return [replace(batch, partner_rows_B=rows_B) for batch, rows_B in zip(plan, rows, strict=True)]
