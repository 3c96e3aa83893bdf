"""The batches of an epoch, drawn from seed and epoch alone, and the part of each that one process computes. Pure."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.rng import derive, generator
from pipeline.samplers import RowSampler
from pipeline.settings.stage1 import Stage1


@dataclass(frozen=True)
class Batch:
    """A step's global batch: rows, the row that each is mixed with, and the share of the first in the mixture."""

    rows_B: Tensor
    partner_rows_B: Tensor
    share: float
    centre: tuple[float, float] = (0.5, 0.5)
    """The middle of CutMix's box (y, x), in shares of the image's height and width."""
    partner_repeats_B: Tensor | None = None
    """The time that each partner is drawn in the epoch, where partners are drawn anew; the batch's own rows are time 0.
    None: the partners are rows of the batch itself."""


@dataclass(frozen=True)
class Micro:
    """Rows that go through the network together: fetched positions start … stop - 1, mixed with positions `partner_M` (M,).

    `weight` is its share of the global batch: the sum of weight * mean loss over all parts is the global batch's mean loss.
    """

    start: int
    stop: int
    partner_M: Tensor
    weight: float


@dataclass(frozen=True)
class Part:
    """One process's part of a batch: the Q rows that it fetches. Its own come first, then those that they are mixed with."""

    rows_Q: Tensor
    repeats_Q: Tensor
    """The time that each is drawn in the epoch, from 0: each time has an augmentation of its own."""
    micros: list[Micro]


def batches(rows: int, stage1: Stage1, seed: int, epoch: int) -> list[Batch]:
    """The global batches of an epoch over `rows` rows; the same whatever the number of processes and micro-batches."""
    order_N = torch.randperm(rows, generator=generator(seed, "order", epoch))
    parts = list(order_N.split(stage1.batch_size))
    if len(parts) > 1 and len(parts[-1]) == 1:
        # Batch normalisation has no variance in a single row; that row's turn comes in another epoch.
        parts.pop()
    mixing = np.random.default_rng(derive(seed, "mixup", epoch))
    centres = np.random.default_rng(derive(seed, "cutmix", epoch))
    partners = generator(seed, "partners", epoch)
    plan = []
    for rows_B in parts:
        share = float(mixing.beta(stage1.mixup_alpha, stage1.mixup_alpha))
        partner_B = torch.randperm(len(rows_B), generator=partners)
        y, x = centres.random(2).tolist()
        plan.append(Batch(rows_B, rows_B if stage1.mixing == "none" else rows_B[partner_B], share, (y, x)))
    return plan


def part(batch: Batch, rank: int, world: int, accumulate: int) -> Part:
    """The part of process `rank` of `world`, in at most `accumulate` micro-batches, each of two rows or more.

    A process for which a small last batch leaves nothing takes its first rows at weight 0: it has to join the others'
    sum of gradients.
    """
    size = len(batch.rows_B)
    sharing = _parts_of(size, world)
    first, own = _slice(size, min(rank, sharing - 1), sharing)
    joins_only = rank >= sharing
    own = min(own, 2) if joins_only else own
    share = slice(first, first + own)
    rows_O, partner_rows_O = batch.rows_B[share], batch.partner_rows_B[share]
    if batch.partner_repeats_B is None:
        rows_Q = _with_partners(rows_O, partner_rows_O)
        partner_O, repeats_Q = _positions(rows_Q, partner_rows_O), torch.zeros_like(rows_Q)
    else:
        rows_Q = torch.cat([rows_O, partner_rows_O])
        partner_O = torch.arange(own, 2 * own)
        repeats_Q = torch.cat([torch.zeros_like(rows_O), batch.partner_repeats_B[share]])
    pieces = _parts_of(own, accumulate)
    micros = []
    for piece in range(pieces):
        start, length = _slice(own, piece, pieces)
        stop = start + length
        micros.append(Micro(start, stop, partner_O[start:stop], 0.0 if joins_only else length / size))
    return Part(rows_Q, repeats_Q, micros)


def _parts_of(size: int, wanted: int) -> int:
    return max(1, min(wanted, size // 2))


def _slice(size: int, index: int, parts: int) -> tuple[int, int]:
    """Start and length of part `index`; the first parts are one longer where the size does not divide."""
    short, longer = divmod(size, parts)
    return index * short + min(index, longer), short + (index < longer)


def _with_partners(own_O: Tensor, partners_O: Tensor) -> Tensor:
    return torch.cat([own_O, partners_O[~torch.isin(partners_O, own_O)].unique()])


def _positions(rows_Q: Tensor, wanted_O: Tensor) -> Tensor:
    sorted_Q, order_Q = rows_Q.sort(stable=True)
    return order_Q[torch.searchsorted(sorted_Q, wanted_O)]


def with_reversed(plan: list[Batch], labels_N: Tensor, seed: int, epoch: int) -> list[Batch]:
    """The batches with rows of the reversed sampler as partners, each with the time, from 1, that it is drawn in the epoch."""
    sizes = [len(batch.rows_B) for batch in plan]
    drawn_M = RowSampler(labels_N, "reversed").draw((sum(sizes),), generator(seed, "reversed", epoch))
    order_M = torch.argsort(drawn_M, stable=True)
    count_N = torch.bincount(drawn_M, minlength=len(labels_N))
    start_N = torch.cumsum(count_N, 0) - count_N
    times_M = torch.empty_like(drawn_M)
    times_M[order_M] = torch.arange(1, len(drawn_M) + 1) - start_N[drawn_M[order_M]]
    drawn = zip(plan, drawn_M.split(sizes), times_M.split(sizes), strict=True)
    return [replace(batch, partner_rows_B=rows_B, partner_repeats_B=times_B) for batch, rows_B, times_B in drawn]
