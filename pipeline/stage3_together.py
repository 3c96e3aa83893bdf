"""Many runs of stage 3 at once: those that may differ within one batched program train side by side, a run folder each."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from cache import FeatureCache
from cache.errors import CacheError
from pipeline.artefacts import folders
from pipeline.classifiers import settled, train_classifiers
from pipeline.classifiers.kinds import TRAININGS
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.replicas import PER_REPLICA
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.trained import prior_power
from pipeline.errors import PipelineError, line_of
from pipeline.features import is_unseen
from pipeline.settings import Settings
from pipeline.stage3_retrain import Run, made_by, publish, seeds_of

COPIES = 8
"""Numbers held for each parameter of a replica: itself, its gradient, Adam's two moments and its step, and while they are
computed three more of its size."""
STEP_COPIES = 6
"""Numbers held for each feature of a step: drawn rows, noise, mask, what Eq. 3 and 4 make of them, and their gradients."""
DRAWN = 2**18
"""Random numbers of a kind that `replicas` draws at a time for each seed."""
SIDE_BY_SIDE = tuple(name for name, training in TRAININGS.items() if training.of_logits_alone)
"""Heads whose variants may share a program: linear ones, whose loss reads logits and labels alone."""
SEEDLESS = ("none", "dropout", "noise", "closed-form", "stg")
"""Augmentations that draw nothing by the run's seed before training. Runs of others share a program with those of their seed."""
MOST_RUNS = 256
"""Runs of one program, each of which holds a lock, an open file, while it trains; a process may often open 1,024."""
SHARE_OF_RAM = 4
"""One program takes at most this part of the memory that it may use."""
FAILURES = (PipelineError, CacheError, ValueError, MemoryError, RuntimeError)
"""What training may end in: torch raises RuntimeError, of which OutOfMemoryError is one."""


@dataclass(frozen=True)
class Program:
    """Runs that are trained as one: replica = (variant, seed). Runs of equal settings but for the seed share a variant."""

    runs: tuple[Run, ...]
    variants: tuple[Settings, ...]
    seeds: tuple[int, ...]

    @property
    def replicas(self) -> int:
        return len(self.variants) * len(self.seeds)

    def bytes(self, width: int, classes: int) -> int:
        """An upper estimate of the memory that its training takes, beside the features themselves."""
        settings = self.variants[0].retrain
        if not settings.is_trained:
            return 0
        step = settings.batch_size * (STEP_COPIES * width + 4 * classes)
        return 4 * (self.replicas * (COPIES * classes * (width + 2) + step) + 2 * len(self.seeds) * DRAWN)


def programs(runs: Sequence[Run], cache: FeatureCache, limit: int | None = None) -> list[Program]:
    """The runs in as few programs as can be, each within `limit` bytes where one run alone is; in the order of the runs.

    Runs whose head is not SIDE_BY_SIDE are programs of their own. So are those whose number of steps is found on held-out rows,
    since that number depends on their settings.
    """
    groups: dict[str, list[Run]] = {}
    for position, run in enumerate(runs):
        retrain = run.settings.retrain
        searched = is_unseen(cache) and not retrain.epochs and not retrain.steps
        alone = retrain.head not in SIDE_BY_SIDE or searched
        key = str(position) if alone else _shape(run)
        groups.setdefault(key, []).append(run)
    width, classes = cache.manifest.identity.width, len(cache.classes)
    return [program for group in groups.values() for program in _within(_by_seeds(group), width, classes, limit)]


def _shape(run: Run) -> str:
    """A text that is equal for runs that one program may train: all settings but those that each replica has of its own."""
    values = made_by(run.settings)
    if run.settings.retrain.augmentation in SEEDLESS:
        del values["seed"]
    values["retrain"] = {
        name: value for name, value in values["retrain"].items() if name not in (*PER_REPLICA, "seeds")
    }
    return folders.key_of(**values, generator=run.generator_digest, name=run.settings.name)


def _variant(settings: Settings) -> str:
    return folders.key_of(**settings.retrain.model_dump(mode="json", exclude={"seeds"}))


def _by_seeds(runs: list[Run]) -> Iterator[Program]:
    """Variants that want the same seeds together."""
    seeds_by_variant: dict[str, set[int]] = {}
    for run in runs:
        seeds_by_variant.setdefault(_variant(run.settings), set()).update(seeds_of(run.settings))
    together: dict[tuple[int, ...], list[Run]] = {}
    for run in runs:
        together.setdefault(tuple(sorted(seeds_by_variant[_variant(run.settings)])), []).append(run)
    for seeds, members in together.items():
        yield _program(members, seeds)


def _program(runs: list[Run], seeds: tuple[int, ...]) -> Program:
    variants = {_variant(run.settings): run.settings for run in runs}
    return Program(tuple(runs), tuple(variants.values()), seeds)


def _within(whole: Iterator[Program], width: int, classes: int, limit: int | None) -> Iterator[Program]:
    """Programs of at most `limit` bytes and MOST_RUNS runs: halves of those above, by variants and, with one left, by runs."""
    for program in whole:
        fits = len(program.runs) <= MOST_RUNS and (limit is None or program.bytes(width, classes) <= limit)
        if fits or len(program.runs) == 1:
            yield program
            continue
        for half in _halves(program):
            yield from _within(_by_seeds(half), width, classes, limit)


def _halves(program: Program) -> tuple[list[Run], list[Run]]:
    """The runs of each half of the variants; with one variant, each half of the runs."""
    runs = list(program.runs)
    if len(program.variants) == 1:
        return runs[: len(runs) // 2], runs[len(runs) // 2 :]
    first = {_variant(variant) for variant in program.variants[: len(program.variants) // 2]}
    there = [_variant(run.settings) in first for run in runs]
    return (
        [run for run, inside in zip(runs, there, strict=True) if inside],
        [run for run, inside in zip(runs, there, strict=True) if not inside],
    )


def train_program(program: Program, cache: FeatureCache, rows_N: Tensor | None = None) -> list[Classifier | Scored]:
    """The classifier of each run, one replica a seed of its own; with `rows_N` trained on those training rows alone."""
    together = train_classifiers(program.variants, cache, program.seeds, program.runs[0].generator, rows_N)
    if len(program.runs) == 1:
        return [together]
    place = {_variant(variant): number for number, variant in enumerate(program.variants)}
    parts: list[Classifier | Scored] = []
    for run in program.runs:
        first = place[_variant(run.settings)] * len(program.seeds)
        replicas = [first + program.seeds.index(seed) for seed in seeds_of(run.settings)]
        power = prior_power(settled(run.settings, cache))
        parts.append(replace(together.only(replicas), prior_power=power))
    return parts


def run_program(program: Program, cache: FeatureCache) -> None:
    """Train the runs of a program and write their folders; a run's seconds are an even share of the program's.

    Runs that another process has made, or is making, are waited for and left out.
    """
    with ExitStack() as locks:
        to_do = set()
        # In one order for all processes: none waits in a circle.
        for folder in sorted({run.folder for run in program.runs}):
            if locks.enter_context(folders.work_to_do(folder, "classifier")):
                to_do.add(folder)
        runs = [run for run in program.runs if run.folder in to_do]
        for part in [program] if len(runs) == len(program.runs) else _by_seeds(runs):
            _train_and_publish(part, cache)


def failures(program: Program, cache: FeatureCache, strict: bool = False) -> dict[Path, str]:
    """Train a program; where it fails, its runs one by one, so that those that can be trained are. Folder -> why it failed.

    What a program may fail of, such as a loss that diverges or too little memory, is in FAILURES; `strict` raises it instead.
    """
    try:
        run_program(program, cache)
        return {}
    except FAILURES as error:
        if strict:
            raise
        why = line_of(error)
    # After the handler, which holds the tensors of what has failed.
    if len(program.runs) == 1:
        return {program.runs[0].folder: why}
    return {folder: why for each in _separate(program) for folder, why in failures(each, cache).items()}


def _separate(program: Program) -> list[Program]:
    """Each run as a program of its own."""
    return [Program((run,), (run.settings,), tuple(seeds_of(run.settings))) for run in program.runs]


def _train_and_publish(program: Program, cache: FeatureCache) -> None:
    started = time.monotonic()
    classifiers = train_program(program, cache)
    share = (time.monotonic() - started) / len(program.runs)
    for run, classifier in zip(program.runs, classifiers, strict=True):
        publish(run, cache, classifier, time.monotonic() - share)
