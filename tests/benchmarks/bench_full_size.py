"""Stages 2 and 3 at the size of ImageNet-LT: seconds of each arm, its memory, and how many passes of a matrix product it takes.

python tests/benchmarks/bench_full_size.py [--shape 115846x2048x1000] [--folder /tmp/coattail-full-size] [--only stg crt+stg lda]
python tests/benchmarks/bench_full_size.py --unseen --only crt+none

Makes a synthetic cache below --folder, float16, and keeps it for the next call. Counts fall exponentially from 1,280 rows a
class to 5. Classes lie about the centres of superclasses; the rows of a class share directions, as those of real features do.
`--unseen` makes one whose backbone never saw the rows, so that heads choose their steps on rows held out. Processor time is
that of all threads together: on a machine that others use too it says more than the seconds that passed.
"""

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bench_cache import digest, ids  # lies beside this file

from cache import CacheWriter, FeatureCache, Identity, Provenance, SplitIdentity
from cache.identity import samples_digest
from pipeline.features import load
from pipeline.progress import set_verbosity
from pipeline.settings import Settings
from pipeline.settings.load import load as settings_of
from pipeline.stage2_stg import train_stg
from pipeline.stage3_retrain import retrain

CLOSED = ("stage1", "logit-adjustment", "tau-norm", "ncm", "lda", "transfer", "ridge")
OTHER = ("scaling", "knn", "logistic", "auto")
TRAINED = ("crt+none", "crt+closed-form", "crt+stg", "lws+none", "generalized+stg", "logit-adjusted+none")
GOALS = dict.fromkeys(CLOSED, 60) | {"train-stg": 600} | dict.fromkeys(TRAINED, 180)
"""Seconds on two cores."""
LARGEST, SMALLEST, TESTED, SUPERCLASSES, DIRECTIONS = 1280, 5, 20, 40, 64


def counts(rows: int, classes: int) -> np.ndarray:
    """Rows a class, summing to `rows`: exponential from LARGEST to SMALLEST, with the exponent that gives the sum."""
    place = np.arange(classes) / max(1, classes - 1)
    low, high = 0.05, 20.0
    for _ in range(60):
        bent = (low + high) / 2
        count = np.maximum(SMALLEST, LARGEST * (SMALLEST / LARGEST) ** (place**bent)).astype(int)
        low, high = (bent, high) if count.sum() < rows else (low, bent)
    count[0] += rows - count.sum()
    return count


class Made:
    """Class means, and the rows of a class about them: shared directions and noise, then a ReLU."""

    def __init__(self, width: int, classes: int) -> None:
        draw = np.random.default_rng(0)
        centres = 0.12 * draw.standard_normal((SUPERCLASSES, width), dtype=np.float32)
        self.mean_CD = centres[np.arange(classes) % SUPERCLASSES]
        self.mean_CD = self.mean_CD + 0.08 * draw.standard_normal((classes, width), dtype=np.float32)
        self.direction_KD = 0.1 * draw.standard_normal((DIRECTIONS, width), dtype=np.float32)

    def rows(self, labels_B: np.ndarray, purpose: list[int]) -> np.ndarray:
        draw = np.random.default_rng(purpose)
        shared_BD = draw.standard_normal((len(labels_B), DIRECTIONS), dtype=np.float32) @ self.direction_KD
        noise_BD = draw.standard_normal((len(labels_B), self.mean_CD.shape[1]), dtype=np.float32)
        return np.maximum(self.mean_CD[labels_B] + 0.5 * shared_BD + noise_BD, 0).astype(np.float16)

    def classifier(self, count_C: np.ndarray) -> dict[str, np.ndarray]:
        """What a backbone would end with: near the class means, with the training prior in it."""
        weight_CD = 0.5 * self.mean_CD
        bias_C = np.log(count_C / count_C.sum()) - 0.4 * weight_CD.sum(axis=1)
        return {"weight": weight_CD, "bias": bias_C}


def made(stores: Path, rows: int, width: int, classes: int, unseen: bool) -> FeatureCache:
    """The cache of this shape; what an earlier call made is taken as it is."""
    count_C = counts(rows, classes)
    labels = {"train": np.repeat(np.arange(classes), count_C), "test": np.repeat(np.arange(classes), TESTED)}
    splits = {
        name: SplitIdentity(rows=len(y), samples=samples_digest(ids(len(y))), content=digest(name), views=0)
        for name, y in labels.items()
    }
    identity = Identity(
        classes=tuple(f"class {c}" for c in range(classes)), splits=splits, weights=digest(f"weights {unseen}"),
        backbone="synthetic", layer="none", width=width, transform={}, view_transform={}, views_seed=0, dtype="float16",
    )  # fmt: skip
    stage1 = {} if unseen else {"stage1": {"epochs": 90}}
    features = Made(width, classes)
    with CacheWriter(stores, identity, Provenance(name="full-size", settings=stage1), at_once=True) as writer:
        for number, (split, y) in enumerate(labels.items()):
            writer.write_rows(split, pl.DataFrame({"row": range(len(y)), "sample_id": ids(len(y)), "label": y}))
            for shard in writer.pending(split, "clean"):
                own_B = y[shard.start : shard.stop]
                writer.write(shard, features.rows(own_B, [number, shard.start]))
        writer.write_classifier(features.classifier(count_C))
        return FeatureCache.open(writer.publish())


def peak() -> float:
    """The largest memory of this process since `forget_peak`, GiB; 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 2**20
    return 0.0


def forget_peak() -> None:
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def timed(name: str, yardstick: float, work: Callable[[], str]) -> None:
    forget_peak()
    started, processor = time.perf_counter(), time.process_time()
    figures = work()
    seconds, used = time.perf_counter() - started, time.process_time() - processor
    goal = f"(goal {GOALS[name]} s)" if name in GOALS else ""
    print(
        f"{name:<22} {seconds:7.1f} s, {used:7.1f} s of processor, {used / yardstick:7.1f} passes, {peak():4.1f} GiB  {figures} {goal}",
        flush=True,
    )


def matmul(cache: FeatureCache) -> float:
    """Processor seconds of numpy's product of all training rows, float32, with a (D, C) matrix."""
    rows = load(cache)
    blocks = [rows.gather(0, rows_B).numpy() for rows_B in rows.blocks()]
    matrix = np.ones((rows.width, len(cache.classes)), np.float32)
    started = time.process_time()
    for block in blocks:
        block @ matrix
    return time.process_time() - started


def settings(head: str, augmentation: str, overrides: list[str]) -> Settings:
    trained = [f"retrain.augmentation={augmentation}"] if augmentation else []
    return settings_of(overrides=[f"retrain.head={head}", *trained, *overrides]).settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="115846x2048x1000", help="rows x width x classes")
    parser.add_argument("--cache", type=Path, help="a cache of one's own in place of the synthetic one")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/coattail-full-size"))
    parser.add_argument("--unseen", action="store_true")
    parser.add_argument("--only", nargs="+", default=[*CLOSED, *OTHER, "train-stg", *TRAINED])
    parser.add_argument("--set", nargs="+", default=[], dest="overrides")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    set_verbosity(1)
    torch.set_num_threads(given.threads)
    rows, width, classes = map(int, given.shape.split("x"))
    cache = FeatureCache.open(given.cache) if given.cache else made(given.folder, rows, width, classes, given.unseen)
    runs = given.folder / "runs"
    shutil.rmtree(runs, ignore_errors=True)
    yardstick = matmul(cache)
    print(
        f"{cache.key[:12]}: {given.threads} threads; a pass of numpy's matmul is {yardstick:.1f} s of processor",
        flush=True,
    )
    stg: list[Path] = []

    def learn() -> str:
        folder, result = train_stg(settings("crt", "stg", given.overrides), cache, runs)
        stg[:] = [folder]
        return f"{result.steps} steps, error {result.held_out.zero_shift_ratio:.3f} of no shift's"

    def arm(name: str) -> str:
        head, _, augmentation = name.partition("+")
        wants = stg[0] if augmentation == "stg" else None
        _, result = retrain(settings(head, augmentation, given.overrides), cache, runs, wants)
        return f"balanced accuracy {result.balanced_accuracy:.2f}"

    for name in given.only:
        if name.endswith("+stg") and not stg:
            timed("train-stg", yardstick, learn)
        timed(name, yardstick, learn if name == "train-stg" else lambda name=name: arm(name))
    shutil.rmtree(runs, ignore_errors=True)


if __name__ == "__main__":
    main()
