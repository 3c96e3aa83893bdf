"""Does the choice made without the test split stand? Arms that cost next to nothing, and `auto`, on caches and long-tailed draws.

python tests/benchmarks/bench_choice.py CACHE… FILE.npz… [--seeds N]

A .npz holds train, y, test, yt (features and labels) of a backbone that never saw the rows. Of each, some draws: exponential
from 30 rows a class to 1 and from 24 to 2 (classes in an order of the seed, as many rows as there are), and every row as it is.
There `auto` is the committee elected by cross-validation. A cache that holds its stage-1 classifier was trained on its rows:
there `auto` is the fixed rule, and trained heads are shown beside it, the mean of three seeds. Test rows are for the figures
printed and for nothing else.

The best of two dozen arms on some hundred test rows is partly the luckiest. So the regret is printed twice: to the arm that is
best on all test rows, and to the arm that is best on one half of them, which is then compared with `auto` on the other half, over
HALVES splits of the test rows into halves within classes. The second says what knowing the best arm beforehand would have been worth.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cache import FeatureCache
from pipeline.classifiers import candidates, committee, train_classifier
from pipeline.classifiers.candidates import PLAIN, Arm, Logistic
from pipeline.classifiers.discriminant import LDA, Transfer
from pipeline.classifiers.neighbours import fit_neighbours
from pipeline.classifiers.post_hoc import logit_adjustment, nearest_class_mean
from pipeline.classifiers.ridge import fit_ridge
from pipeline.classifiers.scored import Scored
from pipeline.classifiers.whitening import fit_whitening
from pipeline.rng import generator
from pipeline.settings.load import load

TAILS = ((30, 1), (24, 2))
SHOWN: tuple[Arm, ...] = (
    PLAIN,
    Logistic(),
    Logistic(transfer=2.0),
    LDA,
    Transfer(strength=0.0, corrected=True),
    Transfer(strength=2.0),
    Transfer(0.8, 1.0, corrected=True),
)
SHOWN_SEEN: tuple[Arm, ...] = (Logistic(0.003, transfer=0.0), Logistic(0.003, transfer=None), Transfer(0.3, None))
TRAINED = (
    ("crt", "none"),
    ("crt", "transfer"),
    ("crt", "dropout"),
    ("logit-adjusted", "none"),
    ("logit-adjusted", "transfer"),
)
TRAINED_SEEDS = (0, 1, 2)
HALVES = 200


@dataclass(frozen=True)
class Draw:
    name: str
    train_ND: Tensor
    labels_N: Tensor
    test_MD: Tensor
    test_labels_M: Tensor
    classes: int
    stage1: tuple[Tensor, Tensor] | None = None
    cache: FeatureCache | None = None


def draws(path: Path, seeds: int) -> list[Draw]:
    if path.suffix != ".npz":
        cache = FeatureCache.open(path)
        arrays = [torch.from_numpy(np.array(cache.features(split))).float() for split in ("train", "test")]
        labels = [torch.from_numpy(np.array(cache.labels(split))) for split in ("train", "test")]
        found = cache.classifier()
        stage1 = None if found is None else tuple(torch.from_numpy(found[key]).float() for key in ("weight", "bias"))
        return [
            Draw(
                f"cache {cache.key[:12]}", arrays[0], labels[0], arrays[1], labels[1], len(cache.classes), stage1, cache
            )
        ]
    with np.load(path) as held:
        train, labels, test, test_labels = (torch.from_numpy(held[key]) for key in ("train", "y", "test", "yt"))
    classes = int(torch.cat([labels, test_labels]).max()) + 1
    made = []
    for top, bottom in TAILS:
        for seed in range(seeds):
            rows = tail(labels, classes, top, bottom, seed)
            name = f"{path.stem} {top} to {bottom}, seed {seed}"
            made.append(Draw(name, train[rows], labels[rows], test, test_labels, classes))
    return [*made, Draw(f"{path.stem} every row", train, labels, test, test_labels, classes)]


def tail(labels_N: Tensor, classes: int, top: int, bottom: int, seed: int) -> Tensor:
    """Rows of an exponential tail, (K,): of the class of rank c, top * (bottom / top)^(c / (C - 1)) or all there are."""
    source = generator(seed, "tail")
    taken = []
    for rank, label in enumerate(torch.randperm(classes, generator=source).tolist()):
        rows_K = (labels_N == label).nonzero()[:, 0]
        count = max(bottom, int(top * (bottom / top) ** (rank / max(1, classes - 1)) + 1e-9))
        taken.append(rows_K[torch.randperm(len(rows_K), generator=source)][:count])
    return torch.cat(taken).sort().values


@dataclass(frozen=True)
class Right:
    """How often a classifier is right on each test row, (M,) of 0 to 1: the mean over its seeds."""

    right_M: Tensor
    labels_M: Tensor

    @property
    def balanced(self) -> float:
        """Balanced accuracy, percent."""
        return balanced(self.right_M[None], self.labels_M).item()

    @property
    def overall(self) -> float:
        """Accuracy, percent."""
        return 100 * float(self.right_M.mean())


def balanced(right_AM: Tensor, labels_M: Tensor) -> Tensor:
    """Balanced accuracy of each arm, (A,) percent."""
    count_C = torch.bincount(labels_M).double()
    hits_AC = torch.zeros(len(right_AM), len(count_C), dtype=torch.float64).index_add_(1, labels_M, right_AM)
    return 100 * (hits_AC / count_C)[:, count_C > 0].mean(dim=1)


def known(figures: dict[str, Right], auto: str) -> float:
    """By how much the arm that is best on half of the test rows is above `auto` on the other half: the mean over HALVES."""
    labels_M = figures[auto].labels_M
    right_AM = torch.stack([figure.right_M for figure in figures.values()])
    position, source, gains = list(figures).index(auto), generator(0, "halves"), []
    for _ in range(HALVES):
        order_M = torch.randperm(len(labels_M), generator=source)
        order_M = order_M[labels_M[order_M].argsort(stable=True)]
        one_AM, other_AM = (balanced(right_AM[:, rows], labels_M[rows]) for rows in (order_M[::2], order_M[1::2]))
        others_A = one_AM.clone()
        others_A[position] = -torch.inf
        gains.append(float(other_AM[others_A.argmax()] - other_AM[position]))
    return sum(gains) / len(gains)


def right(scores_RMC: Tensor, labels_M: Tensor) -> Right:
    return Right((scores_RMC.argmax(dim=-1) == labels_M).double().reshape(-1, len(labels_M)).mean(dim=0), labels_M)


def linear(draw: Draw, weight_CD: Tensor, bias_C: Tensor) -> Right:
    return right(draw.test_MD.double() @ weight_CD.double().T + bias_C.double(), draw.test_labels_M)


def trained(draw: Draw, head: str, augmentation: str) -> Right:
    """A head as `retrain` trains it, over TRAINED_SEEDS; `auto` has one."""
    assert draw.cache is not None
    settings = load(
        overrides=[f"retrain.head={head}", *([f"retrain.augmentation={augmentation}"] if head != "auto" else [])]
    )
    classifier = train_classifier(settings.settings, draw.cache, TRAINED_SEEDS if head != "auto" else (0,), None)
    return right(classifier.logits(draw.test_MD), draw.test_labels_M)


def measure(draw: Draw) -> dict[str, float]:
    """Prints the draw's table; balanced accuracy on test of each arm, `auto` among them."""
    train, labels, classes = draw.train_ND, draw.labels_N, draw.classes
    counts = torch.bincount(labels, minlength=classes)
    present = counts[counts > 0]
    print(f"\n{draw.name}: {len(labels)} rows, {classes} classes of {int(present.max())} to {int(present.min())}")
    shown = [*SHOWN, *SHOWN_SEEN] if draw.stage1 else list(SHOWN)
    fits = candidates.fit_all(shown, train, labels, classes)
    figures = {candidates.name(arm): linear(draw, *fits[arm]) for arm in shown}
    columns = fit_whitening(train, labels, classes, shrinkage=None)
    for distance in ("l2", "cosine"):
        blocks = [(columns.apply(train), labels)]
        means = nearest_class_mean(blocks, classes, train.shape[1], distance)
        figures[f"nearest mean {distance}"] = linear(draw, *columns.fold(*means))
    figures["10 neighbours"] = right(
        Scored(fit_neighbours(train, labels, classes)).logits(draw.test_MD), draw.test_labels_M
    )
    figures["ridge"] = right(Scored(fit_ridge(train, labels, classes).network).logits(draw.test_MD), draw.test_labels_M)
    started = time.perf_counter()
    said: dict[str, str] = {}
    if draw.stage1:
        weight, bias = draw.stage1
        figures["stage 1"] = linear(draw, weight, bias)
        figures["stage 1 + logit adjustment"] = linear(draw, weight, logit_adjustment(bias, counts))
        figures |= {f"{head} + {added}": trained(draw, head, added) for head, added in TRAINED}
        figures["auto (fixed rule)"] = trained(draw, "auto", "none")
    else:
        elected = committee.elect(train, labels, classes)
        if elected.choice and elected.score:
            said = {name: f"{s.likelihood:7.3f} {s.accuracy:6.1f}" for name, s in elected.choice.scores.items()}
            said["auto (committee)"] = f"{elected.score.likelihood:7.3f} {elected.score.accuracy:6.1f}"
            choice = elected.choice
            likeliest = next(arm for arm in committee.arms() if candidates.name(arm) == choice.arm)
            said["likeliest alone"] = said[choice.arm]
            figures["likeliest alone"] = linear(draw, *candidates.fit(likeliest, train, labels, classes))
            print(
                f"likeliest: {choice.arm}, by {choice.lead:.3f} +- {choice.standard_error:.3f} nats over {choice.runner_up}"
            )
        figures["auto (committee)"] = linear(draw, elected.weight_CD, elected.bias_C)
    seconds = time.perf_counter() - started
    print(f"{'arm':42s} {'held out: likelihood, balanced':>30s}   test: balanced, accuracy")
    for name, figure in sorted(figures.items(), key=lambda item: -item[1].balanced):
        print(f"{name:42s} {said.get(name, ''):>30s}   {figure.balanced:14.1f} {figure.overall:9.1f}")
    auto = next(name for name in figures if name.startswith("auto"))
    table = {name: figure.balanced for name, figure in figures.items()}
    best = max(figure for name, figure in table.items() if name != auto)
    gain, lost = table[auto] - table[candidates.name(PLAIN)], known(figures, auto)
    print(
        f"auto: regret {best - table[auto]:.1f}, to the arm known as best {lost:.1f}, "
        f"{gain:+.1f} on {candidates.name(PLAIN)}, {seconds:.1f} s"
    )
    return table | {"auto": table[auto], "best": best, "known": lost}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    tables = {draw.name: measure(draw) for path in arguments.paths for draw in draws(path, arguments.seeds)}
    print(f"\n{'draw':36s} {'auto':>6s} {'best':>6s} {'regret':>6s} {'known':>6s} {'on plain':>8s}")
    plain = candidates.name(PLAIN)
    for name, table in tables.items():
        regret, gain = table["best"] - table["auto"], table["auto"] - table[plain]
        print(f"{name:36s} {table['auto']:6.1f} {table['best']:6.1f} {regret:6.1f} {table['known']:6.1f} {gain:+8.1f}")
    for text, regrets in (
        ("regret", [table["best"] - table["auto"] for table in tables.values()]),
        ("to the arm known as best", [table["known"] for table in tables.values()]),
    ):
        kept = sum(max(0.0, regret) for regret in regrets) / len(regrets)
        mean = sum(regrets) / len(regrets)
        print(f"{text}: mean {mean:.2f} ({kept:.2f} where a gain counts 0), worst {max(regrets):.2f}")
    print("\nmean over all draws, and regret of each arm taken always")
    common = [name for name in next(iter(tables.values())) if all(name in table for table in tables.values())]
    for name in sorted(common, key=lambda name: -sum(table[name] for table in tables.values())):
        lost = [table["best"] - table[name] for table in tables.values()]
        print(
            f"{name:42s} {sum(t[name] for t in tables.values()) / len(tables):6.2f} {sum(lost) / len(lost):6.2f} {max(lost):6.2f}"
        )


if __name__ == "__main__":
    main()
