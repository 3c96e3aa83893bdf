"""How many threads stage 1 trains with: as torch has it, or fewer where steps are quicker so.

A small network gains little from many threads, and on a machine whose processors others use as well, it loses. The last bits
of the weights depend on the number. So a run keeps its number over interruptions, and records it.
"""

import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from pipeline.machine.device import autocast
from pipeline.machine.rank import world
from pipeline.progress import note
from pipeline.rng import generator
from pipeline.training.checkpoint import threads_of
from pipeline.training.optimizer import Optimizer
from pipeline.training.steps import Training

CHOSEN_BY_USER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables of the environment that say how many threads there are. Where one is set, nothing is measured."""
TIMED = 3
"""Steps that are timed with each number, after one that warms up. The first decides whether the others are worth it."""
SHORTEST = 300
"""Steps of a training that is worth it. Where nothing is gained, two steps are lost with each of two numbers of threads: as much
as six with all threads at most, which is 2 % of these."""
GAIN = 1.15
"""How many times as quick a step must be with fewer threads. Less could be chance, and another number at the next run."""


@contextmanager
def as_many_threads_as_help(training: Training, folder: Path) -> Iterator[None]:
    """Within, as many threads as this training is quickest with; where a run goes on, as many as it began with.

    The user's own number stands. Nothing is measured for short trainings, on accelerators, or where processes share the work.
    """
    before = torch.get_num_threads()
    is_ours = training.device.type == "cpu" and world() == 1 and not any(map(os.environ.get, CHOSEN_BY_USER))
    try:
        if before > 1 and is_ours:
            torch.set_num_threads(_number(training, folder, before))
        yield
    finally:
        torch.set_num_threads(before)


def _number(training: Training, folder: Path, most: int) -> int:
    has_begun, threads = threads_of(folder)
    if has_begun:
        return min(threads or most, most)
    if training.steps < SHORTEST:
        return most
    threads, seconds = quickest(trial_step(training), most)
    if threads < most:
        note(
            f"stage 1 trains with {threads} of {most} threads: a step takes {seconds[threads]:.2g} s so and {seconds[most]:.2g} "
            "s with all; the variable OMP_NUM_THREADS sets another number"
        )
    return threads


def quickest(step: Callable[[], object], most: int) -> tuple[int, dict[int, float]]:
    """The number of threads for a step, and the seconds that it takes with each number that was tried.

    `most` is halved as long as that makes a step GAIN times as quick. The two numbers take turns, so that a change of the
    machine's load meets both.
    """
    seconds: dict[int, float] = {}
    best = most
    while best > 1:
        pair = (best, best // 2)
        times: dict[int, list[float]] = {number: [] for number in pair}
        for turn in range(TIMED + 1):
            for number in pair:
                torch.set_num_threads(number)
                started = time.perf_counter()
                step()
                times[number] += [time.perf_counter() - started] if turn else []
            if turn == 1 and not _gains(times, pair):
                break
        seconds |= {number: median(values) for number, values in times.items()}
        if not _gains(times, pair):
            break
        best //= 2
    return best, seconds


def _gains(times: dict[int, list[float]], pair: tuple[int, int]) -> bool:
    """Whether a step is clearly quicker with the second number of threads than with the first."""
    return median(times[pair[0]]) >= GAIN * median(times[pair[1]])


def trial_step(training: Training) -> Callable[[], None]:
    """A training step on a copy of the model with random images: neither weights nor random numbers of the training change."""
    model, stage1, size = copy.deepcopy(training.model).train(), training.stage1, training.settings.data.image_size
    images = max(2, min(stage1.batch_size // stage1.accumulate, len(training.split)))
    layout = torch.channels_last if stage1.channels_last else torch.contiguous_format
    noise_B3SS = torch.randn(images, 3, size, size, generator=generator(training.settings.seed, "threads"))
    pixels_B3SS = noise_B3SS.contiguous(memory_format=layout)
    labels_B = torch.zeros(images, dtype=torch.long)
    optimizer = Optimizer(model, stage1)
    optimizer.at_rate(0.0)

    def step() -> None:
        with torch.random.fork_rng(devices=[]):
            model.zero_grad(set_to_none=True)
            with autocast(stage1.amp, training.device):
                loss = F.cross_entropy(model(pixels_B3SS).flatten(1), labels_B)
            loss.backward()
            optimizer.step()

    return step
