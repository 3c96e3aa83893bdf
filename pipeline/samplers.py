"""Which rows a step sees. Pure: a generator in, row indices out."""

import math

import torch
from torch import Generator, Tensor

from pipeline.rng import sampled


class RowSampler:
    """Draws rows with replacement: `balanced` or `reversed` picks a class, then one of its rows; `instance` picks any row.

    Class-balanced sampling is that of Kang et al. (2019), q = 0; reversed, P(c) ~ 1 / n_c, that of BBN (Zhou et al., 2020).
    Classes without rows are never picked.
    """

    def __init__(self, labels_N: Tensor, sampling: str = "balanced") -> None:
        if sampling not in ("balanced", "reversed", "instance"):
            raise ValueError(f"RowSampler: unknown sampling {sampling!r}; wanted balanced, reversed or instance")
        self.sampling = sampling
        self.rows = len(labels_N)
        self._order_N = torch.argsort(labels_N, stable=True)
        _, self._count_C = torch.unique(labels_N, return_counts=True)
        self._start_C = torch.cumsum(self._count_C, 0) - self._count_C

    def draw(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """Row indices of the given shape."""
        if self.sampling == "instance":
            return sampled(torch.randint, self.rows, shape, generator=generator)
        if self.sampling == "balanced":
            classes = sampled(torch.randint, len(self._count_C), shape, generator=generator)
        else:
            share_C = 1 / self._count_C.cpu().double()
            picked = torch.multinomial(share_C, math.prod(shape), True, generator=generator)
            classes = torch.as_tensor(picked.view(shape))
        count = self._count_C[classes]
        # float64: a uniform below 1 times a count never rounds up to the count.
        within = (sampled(torch.rand, shape, generator=generator, dtype=torch.float64) * count).long()
        return self._order_N[self._start_C[classes] + within]
