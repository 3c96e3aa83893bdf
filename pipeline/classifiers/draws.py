"""What each step of training draws for a seed: rows, views, noise. It is equal whichever seeds are trained beside it."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Generator, Tensor

from pipeline.augment.kinds import Draw, Kind
from pipeline.features import Features
from pipeline.rng import generator, sampled
from pipeline.samplers import RowSampler
from pipeline.settings.stage3 import Retrain

ROW_NUMBERS = 1 << 18
"""Features of the steps whose rows are drawn together, for one seed."""
AT_A_TIME = 1 << 20
"""Numbers of a kind that are drawn together, and features of a step that are augmented together, 4 MiB. Of 64 seeds with 64
features, 2^15 took 16.6 ms a step, 2^17 13.7 and 2^20 12.0: small parts cost more in calls than they gain."""
NORMAL_NUMBERS = 16
"""torch draws normal numbers in groups of so many. Only draws of whole groups, joined, are the same numbers as one draw."""


def draws(features: Features, settings: Retrain, kind: Kind, seeds: Sequence[int], steps: int) -> Iterator[Draw]:
    """The draws of each step for S seeds. Arms that share a seed share rows, views and noise: comparisons are paired.

    A Draw's random numbers stay in place until the next is taken.
    """
    sampler, any_row = RowSampler(features.labels_N, settings.sampled), RowSampler(features.labels_N, "instance")
    of = {
        purpose: [generator(seed, "retrain", purpose) for seed in seeds]
        for purpose in ("rows", "views", "noise", "uniform", "others")
    }
    batch, width = settings.batch_size, features.width
    together = max(1, ROW_NUMBERS // (batch * width))
    uniforms = width if kind.uniforms is None else kind.uniforms(features)
    noise = _numbers(torch.randn, of["noise"] if kind.draws_noise else [], (batch, width), together, steps)
    uniform = _numbers(torch.rand, of["uniform"] if kind.draws_uniform else [], (batch, uniforms), together, steps)
    for start in range(0, steps, together):
        shape = (min(together, steps - start), batch)
        rows_SKB = torch.stack([sampler.draw(shape, source) for source in of["rows"]])
        views_SKB = torch.stack(
            [sampled(torch.randint, features.views, shape, generator=source) for source in of["views"]]
        )
        labels_SKB, flat_SKB = features.labels_N[rows_SKB], features.flat(views_SKB, rows_SKB)
        others_SKB = torch.stack([any_row.draw(shape, source) for source in of["others"]]) if kind.draws_rows else None
        for k in range(shape[0]):
            yield Draw(
                features.gather_flat(flat_SKB[:, k]),
                labels_SKB[:, k],
                flat_SKB[:, k],
                next(noise),
                next(uniform),
                None if others_SKB is None else features.gather(0, others_SKB[:, k]),
            )


def _numbers(
    draw: Callable[..., Tensor], sources: list[Generator], shape: tuple[int, int], together: int, steps: int
) -> Iterator[Tensor]:
    """The numbers of each step, (S, B, W), in memory that the next ones overwrite; (0, B, W) without sources.

    They are those of drawing `together` steps at a time.
    """
    size = shape[0] * shape[1]
    if draw is not torch.randn or size % NORMAL_NUMBERS == 0:
        together = max(1, min(steps, AT_A_TIME // max(1, size * len(sources))))
    filled_SKBW = torch.empty(len(sources), min(together, steps), *shape, device="cpu")
    for start in range(0, steps, together):
        count = min(together, steps - start)
        for position, source in enumerate(sources):
            draw((count, *shape), generator=source, out=filled_SKBW[position, :count], device="cpu")
        yield from (torch.as_tensor(filled_SKBW[:, k]) for k in range(count))
