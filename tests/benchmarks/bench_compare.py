"""`compare` against its arms as commands of their own: seconds, and seconds of processor.

python tests/benchmarks/bench_compare.py [--cache CACHE] [--seeds N] [--only METHOD…]

Both start from an empty folder of runs. An arm that is trained on N seeds stands for N commands `retrain`, of which one is run and
counted N times, or for one `retrain --seeds N`; a computed arm for one `retrain`. The generator is made before, by `train-stg`.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.settings.register import HEADS

ROOT = Path(__file__).resolve().parents[2]
SAMPLED = ["--set", "retrain.sampling=auto"]
"""For trained heads: each one's own way of sampling, in place of the one way that a cache may record."""


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of processor, of all threads."""

    clock: float = 0.0
    processor: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.clock + other.clock, self.processor + other.processor)

    def __mul__(self, times: int) -> "Cost":
        return Cost(self.clock * times, self.processor * times)

    def __str__(self) -> str:
        return f"{self.clock:8.1f} s {self.processor:8.1f} s of processor"


def command(words: list[str], runs: str) -> tuple[Cost, Any]:
    """What a command costs, imports included, and the document that it prints."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *words, "--json", "-q"],
        env={**os.environ, "COATTAIL_RUNS": runs},
        stdout=subprocess.PIPE,
        check=True,
    )
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(clock, processor), json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", default=str(ROOT / "configs" / "samples" / "cifar100-lt"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--only", nargs="+", default=[], help="methods, such as crt+stg; by default all; one of them a trained head"
    )
    given = parser.parse_args()
    methods = ["--methods", ",".join(given.only), *SAMPLED] if given.only else []
    with tempfile.TemporaryDirectory() as runs:
        together, document = command(["compare", "--cache", given.cache, "--seeds", str(given.seeds), *methods], runs)
    arms = document["comparisons"][0]["arms"]
    print(f"compare, {len(arms)} arms, {sum(len(arm['seeds']) for arm in arms)} classifiers: {together}", flush=True)
    a_seed, all_seeds = Cost(), Cost()
    with tempfile.TemporaryDirectory() as runs:
        if any("stg" in arm["method"] for arm in arms):
            generator, _ = command(["train-stg", "--cache", given.cache], runs)
            a_seed, all_seeds = generator, generator
        for arm in arms:
            head, _, augmentation = arm["method"].partition("+")
            words = ["retrain", "--cache", given.cache, "--head", head]
            words += ["--augmentation", augmentation or "none", *SAMPLED] if HEADS[head].trained else []
            several = HEADS[head].trained
            one, _ = command([*words, "--seeds", "1"] if several else words, runs)
            every, _ = command([*words, "--seeds", str(given.seeds)], runs) if several else (one, None)
            a_seed, all_seeds = a_seed + one * len(arm["seeds"]), all_seeds + every
            print(f"  {arm['method']:<32} one seed {one}, {len(arm['seeds'])} seeds {every}", flush=True)
    for text, apart in (("a command a classifier", a_seed), ("a command an arm, its seeds together", all_seeds)):
        clock, processor = apart.clock / together.clock, apart.processor / together.processor
        print(f"{text:<38} {apart}: {clock:.1f} times by the clock, {processor:.1f} times of processor")


if __name__ == "__main__":
    main()
