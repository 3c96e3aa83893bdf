"""How much the transformations of five samples of one tail class differ (the paper's Table 5)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cache import FeatureCache
from pipeline.augment.tail import Tail, tail_of
from pipeline.errors import DataError
from pipeline.features import coordinates_of
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.stg import trained as stg_file
from pipeline.stg.generator import VARIANCE_FLOOR

COMPARED_ROWS = 5
"""As in the paper."""


class Divergence(BaseModel):
    """KL divergences between the transformations of samples of one class, and the head class that is nearest to each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    cache: str
    tail_class: str
    rows: list[int]
    """Which training rows the samples are."""
    nearest: list[str]
    """The head class whose token each sample takes."""
    divergences: list[list[float]]
    """[i][j]: KL(N(mu_i, Sigma_i) || N(mu_j, Sigma_j)), in nats."""
    same_head: float | None
    """Mean over pairs of samples that share their nearest head class; None where no two do."""
    other_head: float | None
    """Mean over the other pairs."""


def kl_divergence(mean_SD: Tensor, variance_SD: Tensor) -> Tensor:
    """KL(N_i || N_j) of diagonal Gaussians, (S, D) and (S, D) -> (S, S), in nats.

    Half the sum over dimensions of log(v_j / v_i) + (v_i + (m_i - m_j)^2) / v_j - 1.
    """
    mean, variance = mean_SD.double(), variance_SD.double()
    ratio_SSD = variance[:, None] / variance[None]
    shift_SSD = (mean[:, None] - mean[None]).square() / variance[None]
    return 0.5 * (ratio_SSD + shift_SSD - 1 - ratio_SSD.log()).sum(dim=2)


@dataclass(frozen=True)
class SampleTransformations:
    """Rows of one tail class: their nearest head classes, and KL(i || j) in nats, (S, S), between their transformations."""

    tail_class: int
    rows: tuple[int, ...]
    nearest: tuple[int, ...]
    kl_SS: NDArray[np.float64]


def example_class(tail: Tail) -> int | None:
    """The smallest tail class of at least COMPARED_ROWS rows, else the largest that has two; None where none has."""
    counts = tail.train.counts_C.tolist()
    large = [c for c in tail.classes if counts[c] >= COMPARED_ROWS]
    two = [c for c in tail.classes if counts[c] >= 2]
    return large[0] if large else two[-1] if two else None


@torch.no_grad()
def sample_transformations(tail: Tail) -> SampleTransformations | None:
    """COMPARED_ROWS seeded rows of the example class, or as many as it has; None where no tail class has two."""
    tail_class = example_class(tail)
    if tail_class is None:
        return None
    assert tail.augmentation.transformations is not None
    rows_N = (tail.train.labels_N == tail_class).nonzero()[:, 0]
    order_N = torch.randperm(len(rows_N), generator=generator(tail.settings.seed, "divergence"))
    rows_S = rows_N[order_N[:COMPARED_ROWS]].sort().values
    mean_SD, deviation_SD = tail.augmentation.transformations(tail.train.gather(0, rows_S), rows_S)
    kl_SS = kl_divergence(mean_SD, deviation_SD.square() + VARIANCE_FLOOR).numpy()
    return SampleTransformations(tail_class, tuple(rows_S.tolist()), tuple(tail.nearest_N[rows_S].tolist()), kl_SS)


def divergence(settings: Settings, cache: FeatureCache, stg: Path) -> Divergence:
    """Table 5 of a cache by the generator of the run folder `stg`, of the rows that the report shows, too.

    Raises DataError where no tail class has two training rows.
    """
    trained, _ = stg_file.load(stg, cache, coordinates_of(cache, settings))
    samples = sample_transformations(tail_of(settings, cache, trained))
    if samples is None:
        raise DataError(
            f"divergence: wanted a tail class of at least 2 training rows, cache {cache.key[:12]} has none; "
            "lower stg.head_classes"
        )
    nearest_S = np.array(samples.nearest)
    off_SS = ~np.eye(len(nearest_S), dtype=bool)
    same_SS = (nearest_S[:, None] == nearest_S[None]) & off_SS
    return Divergence(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        tail_class=cache.classes[samples.tail_class],
        rows=list(samples.rows),
        nearest=[cache.classes[c] for c in samples.nearest],
        divergences=samples.kl_SS.tolist(),
        same_head=_mean(samples.kl_SS[same_SS]),
        other_head=_mean(samples.kl_SS[off_SS & ~same_SS]),
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    return float(values.mean()) if len(values) else None
