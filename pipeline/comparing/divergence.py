"""How much the transformations of five samples of one tail class differ (the paper's Table 5)."""

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from cache import FeatureCache
from pipeline.augment.transfer import nearest_heads
from pipeline.errors import DataError
from pipeline.features import stage1_classifier, training_rows
from pipeline.rng import generator
from pipeline.settings import Settings
from pipeline.stg import trained as stg_file

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


@torch.no_grad()
def divergence(settings: Settings, cache: FeatureCache, stg: Path) -> Divergence:
    """Five seeded rows of a seeded tail class, their transformations by the generator of the run folder `stg`.

    Raises DataError where no tail class has five rows.
    """
    trained, _ = stg_file.load(stg, cache, settings.coordinates)
    train = training_rows(cache, settings, views=False)
    tail = [c for c, n in enumerate(train.counts_C.tolist()) if c not in trained.heads and n >= COMPARED_ROWS]
    if not tail:
        raise DataError(
            f"divergence: wanted a tail class of at least {COMPARED_ROWS} training rows, cache {cache.key[:12]} has none; "
            "lower stg.head_classes"
        )
    draw = generator(settings.seed, "divergence")
    chosen = tail[int(torch.randint(len(tail), (1,), generator=draw))]
    rows_N = (train.labels_N == chosen).nonzero()[:, 0]
    rows_S = rows_N[torch.randperm(len(rows_N), generator=draw)[:COMPARED_ROWS]].sort().values
    features_SD = train.gather(0, rows_S)
    stage1 = stage1_classifier(cache)
    if stage1 is not None and train.coordinates is not None:
        stage1 = train.coordinates.unfold(*stage1)
    nearest_N = nearest_heads(settings.stg.similarity, stage1, train, trained.centroids_HD, trained.heads)
    nearest_S = nearest_N[rows_S]
    mean_SD, variance_SD = trained.stg(features_SD, nearest_S)
    kl_SS = kl_divergence(mean_SD, variance_SD)
    off_SS = ~torch.eye(COMPARED_ROWS, dtype=torch.bool)
    same_SS = (nearest_S[:, None] == nearest_S[None]) & off_SS
    return Divergence(
        dataset=cache.manifest.provenance.name,
        cache=cache.key,
        tail_class=cache.classes[chosen],
        rows=rows_S.tolist(),
        nearest=[cache.classes[trained.heads[h]] for h in nearest_S.tolist()],
        divergences=kl_SS.tolist(),
        same_head=_mean(kl_SS[same_SS]),
        other_head=_mean(kl_SS[off_SS & ~same_SS]),
    )


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None
