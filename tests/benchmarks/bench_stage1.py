"""Ratios of stage 1: its loop against bare steps and against the loop that published code uses; extraction; batch sizes; formats.

python tests/benchmarks/bench_stage1.py [--rounds 3] [--only TEXT]

Each arm is a process of its own (glibc's thresholds hold for a process); arms take turns, so that a busy machine slows all.
"""

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.backbones import build
from pipeline.backbones.inference import blocks, outputs
from pipeline.images.dataset import Split
from pipeline.images.pixels import Geometry, RamImages
from pipeline.images.transforms.recipe import Recipe, normalise
from pipeline.machine.device import autocast, keep_freed_memory
from pipeline.progress import set_verbosity, track
from pipeline.settings import Settings
from pipeline.training.steps import Done, Training

IMAGES = 512
"""Of a measurement, or two batches where that is more."""

MEAN, STD = Settings().data.mean, Settings().data.std


@dataclasses.dataclass(frozen=True)
class Arm:
    """What one process measures: `work` is a function of this file, the rest its settings."""

    work: str
    batch: int = 128
    amp: str = "off"
    channels_last: bool = True
    compile: bool = False
    accumulate: int = 1
    kept_memory: bool = True

    @property
    def steps(self) -> int:
        return max(2, IMAGES // self.batch)


def images(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)


def split(rows: int) -> Split:
    names = [str(row) for row in range(rows)]
    held = RamImages(list(images(rows)), names, Geometry(32, 32))
    held.prepare()
    return Split(names, np.arange(rows) % 10, [b""] * rows, held, None)


def model_of(arm: Arm) -> torch.nn.Module:
    model = build("resnet32", 10)
    return model.to(memory_format=torch.channels_last) if arm.channels_last else model


def ours(arm: Arm) -> Callable[[], int]:
    """Epochs of stage 1 with its defaults: mixup, crop, flip."""
    chosen = {"batch_size": arm.batch, "amp": arm.amp, "channels_last": arm.channels_last, "compile": arm.compile}
    stage1 = {**chosen, "accumulate": arm.accumulate, "learning_rate": 1e-3}
    training = Training(
        build("resnet32", 10), split(arm.steps * arm.batch), Settings.model_validate({"stage1": stage1})
    )

    def work() -> int:
        with track(0, "") as progress:
            return list(training.epoch(Done(0), progress))[-1].images

    return work


def bare(arm: Arm) -> Callable[[], int]:
    """The same steps on one synthetic batch, neither mixed nor augmented nor looked at."""
    model = model_of(arm).train()
    forward = torch.compile(model) if arm.compile else model
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
    inputs = torch.randn(arm.batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.arange(arm.batch) % 10

    def work() -> int:
        for _ in range(arm.steps):
            optimizer.zero_grad()
            with autocast(arm.amp, torch.device("cpu")):
                loss = F.cross_entropy(forward(inputs), labels)
            loss.backward()
            optimizer.step()
        return arm.steps * arm.batch

    return work


class Pictures(Dataset):
    """CIFAR as torchvision gives it: an array to PIL, transformed an image at a time."""

    def __init__(self, rows: int) -> None:
        self._images = images(rows)
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[row])), row % 10


def published(arm: Arm) -> Callable[[], int]:
    """The loop of published long-tail code: PIL, DataLoader workers, contiguous tensors, mixup. Workers stay between epochs."""
    model = build("resnet32", 10).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=2e-4)
    loader = DataLoader(
        Pictures(arm.steps * arm.batch), arm.batch, shuffle=True, num_workers=2, persistent_workers=True
    )
    draw = np.random.default_rng(0)

    def work() -> int:
        for inputs, labels in loader:
            share, partner = float(draw.beta(1, 1)), torch.randperm(len(inputs))
            logits = model(share * inputs + (1 - share) * inputs[partner])
            loss = share * F.cross_entropy(logits, labels) + (1 - share) * F.cross_entropy(logits, labels[partner])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return arm.steps * arm.batch

    return work


def extracting(arm: Arm) -> Callable[[], int]:
    """Features of an augmented view, from uint8 in RAM to arrays, as stage1_extract takes them."""
    module, rows, settings = model_of(arm).eval().backbone, split(4 * arm.steps * arm.batch), Settings()

    def work() -> int:
        taken = outputs(module, rows, blocks(0, len(rows), arm.batch), settings.data, arm.amp, Recipe("crop-flip"), 1)
        return sum(len(features_BD.numpy()) for features_BD in taken)

    return work


@torch.inference_mode()
def forwards(arm: Arm) -> Callable[[], int]:
    """Bare forward passes on float tensors that lie in RAM."""
    module = model_of(arm).eval().backbone
    inputs = normalise(torch.from_numpy(images(arm.batch)).permute(0, 3, 1, 2), MEAN, STD)

    def work() -> int:
        with torch.inference_mode():
            for _ in range(4 * arm.steps):
                module(inputs)
        return 4 * arm.steps * arm.batch

    return work


def serve(arm: Arm) -> None:
    """For each line on stdin, do the work once and print images a second; first a warm-up with its seconds."""
    set_verbosity(0)
    torch.manual_seed(0)
    if arm.kept_memory:
        keep_freed_memory()
    started = time.perf_counter()
    work = {one.__name__: one for one in (ours, bare, published, extracting, forwards)}[arm.work](arm)
    work()
    print(time.perf_counter() - started, flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        done = work()
        print(done / (time.perf_counter() - started), flush=True)


class Process:
    """An arm's process."""

    def __init__(self, arm: Arm) -> None:
        command = [sys.executable, __file__, "--arm", json.dumps(dataclasses.asdict(arm))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.warm_up = float(self._stdout.readline())

    def measure(self) -> float:
        self._stdin.write("\n")
        self._stdin.flush()
        return float(self._stdout.readline())

    def close(self) -> None:
        self._stdin.close()
        self._process.wait()


ROWS: list[tuple[str, Arm, Arm, str]] = [
    ("training against bare steps on a synthetic batch", Arm("ours"), Arm("bare"), "at least 0.95"),
    ("training against the published loop, float32", Arm("ours"), Arm("published", kept_memory=False), "aim 1.5"),
    (
        "training with compile against the published loop",
        Arm("ours", compile=True),
        Arm("published", kept_memory=False),
        "",
    ),
    (
        "training in bf16 against the published loop",
        Arm("ours", amp="bf16"),
        Arm("published", kept_memory=False),
        "",
    ),
    ("extraction against bare forward passes", Arm("extracting"), Arm("forwards"), "at least 0.95"),
    ("bf16 against float32", Arm("ours", amp="bf16"), Arm("ours"), ""),
    ("channels last against contiguous", Arm("ours"), Arm("ours", channels_last=False), ""),
    ("compile against none", Arm("ours", compile=True), Arm("ours"), ""),
    ("freed memory kept against glibc's own thresholds", Arm("ours"), Arm("ours", kept_memory=False), ""),
    ("a batch in 2 parts against whole", Arm("ours", accumulate=2), Arm("ours"), ""),
    *[(f"batch {size} against 128", Arm("ours", batch=size), Arm("ours"), "") for size in (32, 64, 256, 512)],
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose text holds this")
    parser.add_argument("--arm")
    arguments = parser.parse_args()
    if arguments.arm:
        serve(Arm(**json.loads(arguments.arm)))
        return
    print(f"ResNet-32, 32 x 32, {torch.get_num_threads()} threads; median ratio of {arguments.rounds} rounds in turns")
    for text, first, second, wanted in [row for row in ROWS if arguments.only in row[0]]:
        one, other = Process(first), Process(second)
        ratios = [one.measure() / other.measure() for _ in range(arguments.rounds)]
        one.close()
        other.close()
        compiling = f", first epoch {one.warm_up:.0f} s" if first.compile else ""
        spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{text:<52} {statistics.median(ratios):6.2f} {spread} {wanted}{compiling}", flush=True)


if __name__ == "__main__":
    main()
