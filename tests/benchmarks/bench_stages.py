"""Ratios of stages 2 and 3: Eq. 1 by segment sums, cached against image training, replicas side by side.

python tests/benchmarks/bench_stages.py
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.augment.kinds import Augmentation, class_strength, kind
from pipeline.augment.transfer import from_closed_form, nearest_head
from pipeline.backbones import build
from pipeline.classifiers import linear, trained
from pipeline.classifiers.replicas import train_heads
from pipeline.classifiers.step import of_logits
from pipeline.features import Features
from pipeline.longtail import class_counts
from pipeline.progress import set_verbosity
from pipeline.settings.stage3 import Retrain
from pipeline.stg.statistics import head_statistics, transformation_targets


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some runs, after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def pairwise(features: torch.Tensor, labels: torch.Tensor, pool: torch.Tensor, pool_labels: torch.Tensor) -> None:
    """Eq. 1 with the pairwise set formed, (B, P, D), as tensors."""
    same = (labels[:, None] == pool_labels[None]).float()[..., None]
    difference = pool[None] - features[:, None]
    size = same.sum(dim=1)
    mean = (difference * same).sum(dim=1) / size
    (((mean[:, None] - difference) ** 2) * same).sum(dim=1).div_(size)


def equation_1() -> float:
    pool, labels = torch.randn(1456, 2048), torch.randint(100, (1456,))
    batch = pool[:256], labels[:256], pool, labels
    return seconds(lambda: pairwise(*batch), 2) / seconds(lambda: transformation_targets(*batch))


def features(width: int = 64, classes: int = 10) -> Features:
    counts = torch.tensor(class_counts(5000 if classes == 10 else 500, classes, 100))
    labels = torch.repeat_interleave(torch.arange(classes), counts)
    return Features(torch.randn(5, len(labels), width).half(), labels, counts)


def closed_form(train: Features) -> Augmentation:
    chosen = [0, 1, 2, 3]
    statistics = head_statistics(train, chosen)
    nearest = torch.cat([nearest_head(view.float(), statistics.mean_CD) for view in train.features_VND])
    beta = class_strength(train.counts_C)
    beta[chosen] = 0
    return Augmentation(kind("closed-form"), from_closed_form(nearest, statistics), beta)


def program(
    train: Features, settings: Retrain, seeds: list[int], variants: int, steps: int, augmentation: Augmentation
) -> None:
    """Train seeds x settings as one program, cRT on the closed form."""
    several = [settings.model_copy(update={"strength": 0.1 * (v + 1)}) for v in range(variants)]
    start = linear.fresh(len(train.counts_C), train.width, seeds * variants)
    tensors = trained.weights_and_bias(start, settings)
    objective = of_logits(trained.cross_entropy(settings, train.counts_C))
    train_heads(train, start, tensors, objective, several, seeds, augmentation, steps)


def replicas(train: Features, seeds: int, variants: int, steps: int) -> tuple[float, float]:
    """Seconds of R runs one after another (from one of them, times R) and of R in one program."""
    settings, augmentation = Retrain(augmentation="closed-form"), closed_form(train)
    alone = seconds(lambda: program(train, settings, [0], 1, steps, augmentation), 3)
    together = seconds(lambda: program(train, settings, list(range(seeds)), variants, steps, augmentation), 2)
    return alone * seeds * variants, together


def image_step() -> float:
    """Seconds of a step that runs the frozen ResNet-32 on a batch of images and trains the same head."""
    backbone = build("resnet32", 10).backbone.eval().to(memory_format=torch.channels_last)
    head = torch.nn.Linear(64, 10)
    optimizer = torch.optim.Adam(head.parameters())
    images = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(10, (128,))

    def step() -> None:
        with torch.no_grad():
            inputs = backbone(images)
        optimizer.zero_grad()
        functional.cross_entropy(head(inputs), labels).backward()
        optimizer.step()

    return seconds(step)


def main() -> None:
    set_verbosity(0)
    torch.manual_seed(0)
    row("Eq. 1 by segment sums, P = 1456, D = 2048, against the pairwise set", equation_1(), 20)
    train, steps = features(), 40
    alone, _ = replicas(train, 1, 1, steps)
    row("a stage-3 step from the cache, against one with the frozen ResNet-32 run", image_step() / (alone / steps), 100)
    for width, classes, seeds, variants, wanted in (
        (64, 10, 8, 8, 20),
        (64, 10, 64, 1, 10),
        (64, 100, 8, 8, 0),
        (512, 100, 8, 8, 0),
        (512, 100, 64, 1, 0),
    ):
        one_by_one, together = replicas(features(width, classes), seeds, variants, steps)
        text = f"{seeds} seeds x {variants} settings in one program, against {seeds * variants} runs, D = {width}, C = {classes}"
        row(text, one_by_one / together, wanted)


def row(text: str, ratio: float, wanted: int) -> None:
    """A line of the table; `wanted` is 0 where the ratio is reported only."""
    print(f"{text:<84} {ratio:7.1f}x" + (f"  (at least {wanted}x)" if wanted else ""), flush=True)


if __name__ == "__main__":
    main()
