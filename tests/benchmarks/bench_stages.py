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

from pipeline.augment.kinds import Augmentation, class_strength
from pipeline.augment.transfer import from_closed_form, nearest_head
from pipeline.backbones import build
from pipeline.classifiers import linear as heads
from pipeline.classifiers.replicas import train_heads
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


def features(width: int = 64) -> Features:
    counts = torch.tensor(class_counts(5000, 10, 100))
    labels = torch.repeat_interleave(torch.arange(10), counts)
    return Features(torch.randn(5, len(labels), width).half(), labels, counts)


def closed_form(train: Features) -> Augmentation:
    chosen = [0, 1, 2, 3]
    statistics = head_statistics(train, chosen)
    nearest = torch.cat([nearest_head(view.float(), statistics.mean_CD) for view in train.features_VND])
    beta = class_strength(train.counts_C)
    beta[chosen] = 0
    return Augmentation("closed-form", from_closed_form(nearest, statistics), beta)


def replicas(train: Features, settings: Retrain, seeds: int, variants: int) -> tuple[float, float]:
    """Seconds of R runs one after another (from one of them, times R) and of R in one program."""
    augmentation = closed_form(train)
    several = [settings.model_copy(update={"strength": 0.1 * (v + 1)}) for v in range(variants)]

    def one() -> None:
        train_heads(train, heads.fresh(10, train.width, [0]), [settings], [0], augmentation)

    def together() -> None:
        chosen = list(range(seeds))
        train_heads(train, heads.fresh(10, train.width, chosen * variants), several, chosen, augmentation)

    return seconds(one, 3) * seeds * variants, seconds(together, 2)


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
    train, settings = features(), Retrain(augmentation="closed-form", epochs=1)
    steps = -(-len(train.labels_N) // settings.batch_size)
    rows = [("Eq. 1 by segment sums, P = 1456, D = 2048, against the pairwise set", equation_1(), 20)]
    one, _ = replicas(train, settings, 1, 1)
    rows.append(
        ("a stage-3 step from the cache, against one with the frozen ResNet-32 run", image_step() / (one / steps), 100)
    )
    for seeds, variants in ((64, 1), (8, 8)):
        alone, together = replicas(train, settings, seeds, variants)
        rows.append(
            (f"{seeds} seeds x {variants} settings in one program, against 64 runs, D = 64", alone / together, 10)
        )
    for text, ratio, wanted in rows:
        print(f"{text:<78} {ratio:7.1f}x  (at least {wanted}x)")


if __name__ == "__main__":
    main()
