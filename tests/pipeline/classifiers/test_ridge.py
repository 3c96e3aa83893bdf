"""Ridge on random features against scikit-learn's ridge of the same features; hard data; any unit."""

import pytest
import torch
from sklearn.linear_model import Ridge

from pipeline.classifiers.ridge import RandomRidge, fit_ridge
from pipeline.classifiers.scored import Scored


def scores(model: RandomRidge, features: torch.Tensor) -> torch.Tensor:
    return Scored(model.network).logits(features)[0]


def rows(counts: list[int], width: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return 2 * torch.randn(len(counts), width, generator=g)[labels] + torch.randn(
        len(labels), width, generator=g
    ), labels


@pytest.mark.parametrize("width", [16, 200])
def test_it_is_the_balanced_ridge_that_scikit_learn_fits(width):
    features, labels = rows([30, 10, 4])
    model = fit_ridge(features, labels, 3, width=width, strengths=[0.1])
    columns = (features.double() - features.double().mean(dim=0)) / features.double().std(dim=0, correction=0)
    random = torch.relu(columns @ model.network.projection.double())
    weight = 44 / (3 * torch.bincount(labels).double()[labels])
    unit = (weight[:, None] * random.square()).sum() / width
    wanted = Ridge(alpha=float(0.1 * unit), fit_intercept=False, solver="cholesky")
    wanted.fit(random.numpy(), torch.nn.functional.one_hot(labels, 3).numpy(), sample_weight=weight.numpy())
    torch.testing.assert_close(
        scores(model, features).double(), torch.from_numpy(wanted.predict(random.numpy())), rtol=0, atol=1e-3
    )


def test_the_strength_comes_from_rows_held_out_and_one_seed_is_one_result():
    features, labels = rows([40, 20, 10])
    first, again = (fit_ridge(features, labels, 3, seed=1, width=64) for _ in range(2))
    assert torch.equal(scores(first, features), scores(again, features))
    assert float((scores(first, features).argmax(dim=1) == labels).double().mean()) > 0.9
    noise = torch.randn(70, 4, generator=torch.Generator().manual_seed(3))
    assert fit_ridge(noise, labels, 3, width=64).strength > first.strength


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_no_unit_and_no_offset_changes_the_scores(scale):
    features, labels = rows([30, 10, 4])
    moved = (features.double() * scale + 1000 * scale * features.double().std(dim=0)).float()
    wanted = scores(fit_ridge(features, labels, 3, width=64, strengths=[0.1]), features)
    found = scores(fit_ridge(moved, labels, 3, width=64, strengths=[0.1]), moved)
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-3)


@pytest.mark.parametrize("counts", [[1, 1, 1], [5, 0, 2], [6], [99, 1], [2, 1]])
@pytest.mark.parametrize("width", [1, 30])
def test_hard_data_is_defined(counts, width):
    features, labels = rows(counts, width)
    for tried in (features, torch.ones_like(features)):
        found = scores(fit_ridge(tried, labels, len(counts), width=32), tried)
        assert not bool(torch.isnan(found).any())
        assert bool(torch.isfinite(found.max(dim=1).values).all())
        assert bool((found[:, torch.tensor(counts) == 0] == -torch.inf).all())
