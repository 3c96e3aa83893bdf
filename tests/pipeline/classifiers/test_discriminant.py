"""Discriminants against scikit-learn's LDA and against the recipe written out class by class; hard data; any unit."""

import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from pipeline.classifiers import discriminant
from pipeline.classifiers.discriminant import LDA, Transfer


def rows(counts: list[int], width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    centre = torch.randn(len(counts), width, generator=g)
    return centre[labels] + torch.randn(len(labels), width, generator=g), labels


def standardised(features: torch.Tensor) -> torch.Tensor:
    return (features.double() - features.double().mean(dim=0)) / features.double().std(dim=0, correction=0)


@pytest.mark.parametrize("width", [1, 4, 40])
@pytest.mark.parametrize("shrinkage", [0.3, 1.0])
def test_lda_predicts_what_scikit_learns_predicts(width, shrinkage):
    features, labels = rows([8] * 4, width)
    columns = standardised(features).numpy()
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[0.25] * 4).fit(
        columns, labels.numpy()
    )
    weight, bias = discriminant.fit_discriminant(features, labels, 4, Transfer(shrinkage, strength=0.0))
    scores = (features @ weight.T + bias).double()
    # scikit-learn divides by n, not by n - 1: all scores by 8 / 7.
    wanted = torch.from_numpy(columns @ model.coef_.T + model.intercept_) * 7 / 8
    difference = scores - wanted
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 4), rtol=0, atol=1e-3)


def _reference_transfer(features, labels, counts, setting):
    """Recipe by recipe, class by class: weights and biases on standardised columns, means whitened."""
    columns, classes = standardised(features), len(counts)
    means = [columns[labels == c].mean(dim=0) for c in range(classes)]
    within = torch.cat([columns[labels == c] - means[c] for c in range(classes)])
    scatter = within.T @ within / (len(labels) - classes)
    width = features.shape[1]
    target = (1 - setting.shrinkage) * scatter + setting.shrinkage * scatter.trace() / width * torch.eye(width).double()
    values, axes = torch.linalg.eigh(target)
    root = axes @ torch.diag(values**-0.5) @ axes.T
    whitened = [root @ mean for mean in means]
    noise = (root @ scatter @ root).trace()
    weights, biases = [], []
    for c in range(classes):
        others = [j for j in range(classes) if j != c]
        distances = torch.stack([(whitened[c] - whitened[j]).square().sum() for j in others])
        closeness = torch.tensor([float(counts[j]) for j in others]).double()
        closeness *= torch.exp(-distances / (setting.temperature * distances.median()))
        closeness /= closeness.sum()
        share = setting.strength / (counts[c] + setting.strength)
        mean = (1 - share) * whitened[c] + share * sum(w * whitened[j] for w, j in zip(closeness, others, strict=True))
        error = (1 - share) ** 2 * noise / counts[c]
        error += share**2 * sum(w**2 * noise / counts[j] for w, j in zip(closeness, others, strict=True))
        weights.append(root @ mean)
        biases.append(-0.5 * (mean.square().sum() - (error if setting.corrected else 0)))
    return columns @ torch.stack(weights).T + torch.stack(biases)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("width", [3, 30])
def test_transfer_is_the_recipe_written_out(corrected, width):
    counts = [9, 5, 2, 1]
    features, labels = rows(counts, width)
    setting = Transfer(0.6, 3.0, 0.1, corrected)
    weight, bias = discriminant.fit_discriminant(features, labels, 4, setting)
    wanted = _reference_transfer(features, labels, counts, setting)
    torch.testing.assert_close((features @ weight.T + bias).double(), wanted, rtol=1e-3, atol=1e-3)


def test_held_out_scores_are_those_of_a_fit_without_the_rows():
    features, labels = rows([12, 8, 6, 1], 5)
    columns = standardised(features).float()
    fold = torch.arange(len(labels)) % 3
    fold[-1] = -1
    grid = discriminant.held_out_scores(features, labels, 4, fold, [0.3, 0.8], [0.0, 2.0], [0.1, 0.5], [False, True])
    settings = []
    for setting, scores in grid:
        settings.append(setting)
        assert bool(torch.isnan(scores[-1]).all())
        for number in range(3):
            kept = fold != number
            mean, count = discriminant.class_means(columns[kept], labels[kept], 4)
            within = columns[kept].double() - mean[labels[kept]]
            scatter = within.T @ within / (int(kept.sum()) - 4)
            target = (1 - setting.shrinkage) * scatter + setting.shrinkage * scatter.trace() / 5 * torch.eye(5).double()
            values, axes = torch.linalg.eigh(target)
            root = axes @ torch.diag(values**-0.5) @ axes.T
            moved = discriminant.transferred_means(mean @ root, count, setting.strength, setting.temperature)
            distances = (columns[~kept].double() @ root)[:, None] - moved[None]
            wanted = -0.5 * distances.square().sum(dim=2)
            difference = scores[fold == number].double() - wanted
            if not setting.corrected:
                torch.testing.assert_close(difference, difference[:, :1].expand(-1, 4), rtol=0, atol=1e-3)
    # Without strength nothing moves: temperatures do not differ.
    assert len(settings) == len(set(settings)) == 2 * 2 * (1 + 2)


def test_ledoit_wolf_is_scikit_learns_on_the_rows_about_their_means():
    features, labels = rows([9, 7, 5], 4)
    columns = standardised(features)
    within = columns - torch.stack([columns[labels == c].mean(dim=0) for c in range(3)])[labels]
    assert discriminant.ledoit_wolf(features, labels, 3) == pytest.approx(
        ledoit_wolf_shrinkage(within.numpy(), assume_centered=True), rel=1e-4
    )


def test_a_moved_mean_lies_between_its_own_and_the_others():
    mean, count = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([1.0, 100.0, 100.0])
    moved = discriminant.transferred_means(mean, count, 1.0, 0.1)
    assert float(moved[0]) == pytest.approx(0.5, abs=0.01)  # half of the way to the nearest
    assert float(moved[1]) == pytest.approx(1.0, abs=0.1)
    torch.testing.assert_close(discriminant.transferred_means(mean, count, 0.0, 0.1), mean)
    by_log = discriminant.transferred_means(mean, count, None, 0.1)
    assert float(by_log[0]) == pytest.approx(0.55, abs=0.01)
    torch.testing.assert_close(
        discriminant.shares(torch.tensor([0, 1, 100, 10000]), None),
        torch.tensor([0.55, 0.55, 0.15856, 0.0]).double(),
        rtol=0,
        atol=1e-5,
    )


@pytest.mark.parametrize("setting", [LDA, Transfer(), Transfer(corrected=True), Transfer(shrinkage=0.0, strength=3.0)])
@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_no_unit_and_no_offset_changes_a_prediction(setting, scale):
    features, labels = rows([20, 8, 3, 1], 6)
    weight, bias = discriminant.fit_discriminant(features, labels, 4, setting)
    wanted = features @ weight.T + bias
    moved = (features.double() * scale + 1000 * scale * features.double().std(dim=0)).float()
    weight, bias = discriminant.fit_discriminant(moved, labels, 4, setting)
    scores = (moved.double() @ weight.double().T + bias.double()).float()
    torch.testing.assert_close(scores, wanted, rtol=0, atol=0.1)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        "constant",
        "duplicates",
        "all duplicates",
        "one row each",
        "wide",
        "one column",
        "two",
        "none",
        "one class",
        "99 %",
    ],
)
def test_hard_data_is_defined(case, corrected):
    counts = {"one row each": [1] * 5, "two": [5, 1], "none": [4, 0, 3], "one class": [6], "99 %": [297, 2, 1]}.get(
        case, [8, 4, 1]
    )
    width = {"wide": 50, "one column": 1}.get(case, 4)
    features, labels = rows(counts, width)
    if case == "constant":
        features[:, 1:] = 3
    if case == "duplicates":
        features = features[labels * 2]
    if case == "all duplicates":
        features = torch.ones_like(features)
    for strength, shrinkage in ((0.0, 0.6), (3.0, 0.6), (3.0, 0.0)):
        setting = Transfer(shrinkage, strength, corrected=corrected)
        weight, bias = discriminant.fit_discriminant(features, labels, len(counts), setting)
        scores = features @ weight.T + bias
        assert bool(torch.isfinite(weight).all())
        assert not bool(torch.isnan(scores).any())
        assert bool(torch.isfinite(scores.max(dim=1).values).all())
    assert 0 <= discriminant.ledoit_wolf(features, labels, len(counts)) <= 1


def test_ten_thousand_classes_of_few_columns():
    g = torch.Generator().manual_seed(0)
    features, labels = torch.randn(20000, 3, generator=g), torch.arange(20000) % 10000
    weight, bias = discriminant.fit_discriminant(features, labels, 10000, Transfer())
    assert bool(torch.isfinite(weight).all() and torch.isfinite(bias).all())
