"""Does an augmentation of features earn its place? Paired differences between arms, each with an interval.

python tests/benchmarks/bench_augment.py CACHE… FILE.npz… [--draws N] [--seeds N] [--epochs N] [--stg-epochs N]

Of a .npz (train, y, test, yt) long-tailed draws are made as in bench_choice.py, from 30 rows a class to 1; a cache is taken as it
is. On each, a class-balanced classifier (cRT) is trained with every augmentation, from the same rows in the same order. The
generators are trained once for each draw. A difference is one of balanced accuracy on test. Its 95 % interval is a bootstrap
over the test rows of each class and over draws and seeds. Test rows are for the figures printed and for nothing else.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from bench_choice import Draw, draws

from pipeline.augment import augmentation_for
from pipeline.classifiers import candidates
from pipeline.classifiers.discriminant import LDA, Transfer
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.mean_shift import mean_shift
from pipeline.classifiers.post_hoc import logit_adjustment
from pipeline.classifiers.problem import Problem
from pipeline.features import Features
from pipeline.settings import STG, Retrain, Settings
from pipeline.stg.distance import Distance, distance
from pipeline.stg.episodes import fit_soft, split_heads
from pipeline.stg.fit import fit, head_rows
from pipeline.stg.statistics import split_statistics
from pipeline.stg.trained import TrainedSTG

TRAINED = {
    "cRT": ("none", "l2"),
    "+ dropout": ("dropout", "l2"),
    "+ noise": ("noise", "l2"),
    "+ transferred means": ("transfer", "l2"),
    "+ closed form": ("closed-form", "l2"),
    "+ STG": ("stg", "l2"),
    "+ soft closed form": ("closed-form", "soft"),
    "+ soft STG": ("stg", "soft"),
}
"""Arm -> augmentation, stg.similarity."""
PAIRS = (
    ("+ STG", "+ closed form"),
    ("+ soft STG", "+ soft closed form"),
    ("+ soft STG", "+ STG"),
    ("+ soft STG", "+ transferred means"),
    ("+ soft STG", "cRT"),
    ("+ STG", "cRT"),
    ("+ transferred means", "cRT"),
    ("+ transferred means", "+ dropout"),
    ("+ transferred means", "logit adjustment"),
    ("+ transferred means", "LDA"),
    ("+ transferred means", "LDA, means transferred"),
)
RESAMPLES = 1000


@dataclass(frozen=True)
class Units:
    """What each arm has right in U units, a draw and a seed each, (U, M) of M test rows; and their labels."""

    right: dict[str, Tensor]
    labels_M: Tensor
    classes: int


def measure(draw: Draw, seeds: int, epochs: int, stg_epochs: int) -> tuple[dict[str, Tensor], dict[str, Distance]]:
    """What each arm has right, (seeds, M) bool, and how far each generator is from what it should predict."""
    counts_C = torch.bincount(draw.labels_N, minlength=draw.classes)
    train = Features(draw.train_ND[None], draw.labels_N, counts_C).standardised()
    assert train.coordinates is not None
    unseen = draw.stage1 is None
    stage1 = None if draw.stage1 is None else train.coordinates.unfold(*draw.stage1)
    generators = {"l2": nearest(train, draw.classes, STG(epochs=stg_epochs)), "soft": soft(train)}
    test_MD, right = draw.test_MD.float(), {}
    for name, (augmentation, similarity) in TRAINED.items():
        started = time.perf_counter()
        settings = Settings(retrain=Retrain(augmentation=augmentation, epochs=epochs), stg=STG(similarity=similarity))
        shift_CD = mean_shift(settings.retrain, train, unseen) if augmentation == "transfer" else None
        trained = generators[similarity][0] if augmentation == "stg" else None
        augment = augmentation_for(settings, train, stage1, trained, shift_CD)
        problem = Problem(
            settings.retrain, train, range(seeds), stage1, augment, unseen, False, None, "balanced", draw.name
        )
        logits_SMC = kind("crt")(problem).folded(train.coordinates).logits(test_MD)
        right[name] = logits_SMC.argmax(dim=2) == draw.test_labels_M
        print(f"{draw.name}: {name}, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    computed = {"LDA": LDA, "LDA, means transferred": Transfer()}
    linear = {name: candidates.fit(arm, draw.train_ND, draw.labels_N, draw.classes) for name, arm in computed.items()}
    if draw.stage1 is None:
        linear["logit adjustment"] = candidates.fit(candidates.PLAIN, draw.train_ND, draw.labels_N, draw.classes)
    else:
        linear["logit adjustment"] = (draw.stage1[0], logit_adjustment(draw.stage1[1], counts_C))
    for name, (weight_CD, bias_C) in linear.items():
        scores_MC = test_MD.double() @ weight_CD.double().T + bias_C.double()
        right[name] = (scores_MC.argmax(dim=1) == draw.test_labels_M).expand(seeds, -1)
    return right, {similarity: figures for similarity, (_, figures) in generators.items()}


def nearest(train: Features, classes: int, settings: STG) -> tuple[TrainedSTG, Distance]:
    rows = head_rows(train, tuple(map(str, range(classes))), settings, 0)
    stg, _, _ = fit(rows, settings, 0)
    centroids_HD = split_statistics(rows.fit, len(rows.heads)).mean_CD
    return TrainedSTG(stg, rows.heads, centroids_HD), distance(stg, rows)


def soft(train: Features) -> tuple[TrainedSTG, Distance]:
    heads = split_heads(train, STG(similarity="soft"), 0)
    stg, _, _, figures = fit_soft(heads, 0)
    return TrainedSTG(stg, heads.heads, stg.lenders().mean_HD), figures


def balanced(right_UM: Tensor, labels_M: Tensor, classes: int) -> Tensor:
    """Balanced accuracy of each unit, percent, (U,)."""
    count_C = torch.bincount(labels_M, minlength=classes)
    hits_UC = torch.zeros(len(right_UM), classes).index_add_(1, labels_M, right_UM.float())
    return 100 * (hits_UC / count_C.clamp(min=1))[:, count_C > 0].mean(dim=1)


def difference(units: Units, first: str, second: str) -> tuple[float, float, float]:
    """Balanced accuracy of the first arm less that of the second, in points, with its 95 % interval."""
    apart_UM = units.right[first].float() - units.right[second].float()
    middle = float(balanced(apart_UM, units.labels_M, units.classes).mean())
    source = torch.Generator().manual_seed(0)
    resampled = torch.empty(RESAMPLES)
    for i in range(RESAMPLES):
        unit_U = torch.randint(len(apart_UM), (len(apart_UM),), generator=source)
        rows_M = _resampled(units.labels_M, source)
        mean_M = apart_UM[unit_U].mean(dim=0, keepdim=True)
        resampled[i] = balanced(mean_M[:, rows_M], units.labels_M[rows_M], units.classes)[0]
    low, high = torch.quantile(resampled, torch.tensor([0.025, 0.975])).tolist()
    return middle, low, high


def _resampled(labels_M: Tensor, source: torch.Generator) -> Tensor:
    """As many test rows of each class as there are, drawn with replacement, (M,)."""
    order_M, count_C = labels_M.argsort(stable=True), torch.bincount(labels_M)
    first_M = (count_C.cumsum(0) - count_C).repeat_interleave(count_C)
    rows_M = count_C.repeat_interleave(count_C)
    return order_M[first_M + (torch.rand(len(labels_M), generator=source) * rows_M).long().clamp(max=rows_M - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=0, help="of each head; 0: until it has learnt")
    parser.add_argument("--stg-epochs", type=int, default=0, help="of the paper's generator; 0: until it has learnt")
    arguments = parser.parse_args()
    for path in arguments.paths:
        made = draws(path, arguments.draws)
        chosen = made if len(made) == 1 else [draw for draw in made if " 30 to 1," in draw.name]
        tables = [measure(draw, arguments.seeds, arguments.epochs, arguments.stg_epochs) for draw in chosen]
        right = {name: torch.cat([table[name] for table, _ in tables]) for name in tables[0][0]}
        units = Units(right, chosen[0].test_labels_M, chosen[0].classes)
        print(f"\n{path.stem}: {len(chosen)} draws, {arguments.seeds} seeds, balanced accuracy on test")
        for name, right_UM in right.items():
            figures_U = balanced(right_UM, units.labels_M, units.classes)
            print(f"  {name:26s} {float(figures_U.mean()):5.1f} +- {float(figures_U.std()):.1f}")
        for _, generators in tables:
            hard, learnt = generators["l2"], generators["soft"]
            print(
                f"  STG: cosine {hard.mean_cosine:.2f}, error over no shift {hard.zero_shift_ratio:.2f}, on head rows held out; soft STG: "
                f"{learnt.mean_cosine:.2f}, {learnt.zero_shift_ratio:.3f} (closed form {learnt.closed_form_ratio:.3f}), on head "
                "classes held out"
            )
        for first, second in PAIRS:
            middle, low, high = difference(units, first, second)
            print(f"  {first} - {second}: {middle:+.1f} ({low:+.1f} to {high:+.1f})", flush=True)


if __name__ == "__main__":
    main()
