"""Nearest neighbours against scikit-learn's; hard data; any unit."""

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from pipeline.classifiers.neighbours import Votes, fit_neighbours
from pipeline.classifiers.scored import Scored


def scores(votes: Votes, features: torch.Tensor) -> torch.Tensor:
    return Scored(votes).logits(features)[0]


def rows(counts: list[int], width: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.randn(len(counts), width, generator=g)[labels] + torch.randn(len(labels), width, generator=g), labels


def standardised(features: torch.Tensor) -> torch.Tensor:
    return (features.double() - features.double().mean(dim=0)) / features.double().std(dim=0, correction=0)


def test_equal_classes_vote_as_scikit_learns_neighbours_do():
    features, labels = rows([20, 20, 20])
    model = KNeighborsClassifier(7).fit(standardised(features).numpy(), labels.numpy())
    wanted = torch.from_numpy(model.predict_proba(standardised(features).numpy())).float()
    votes = scores(fit_neighbours(features, labels, 3, 7), features).exp()
    torch.testing.assert_close(votes, wanted, rtol=0, atol=1e-5)


def test_a_vote_of_a_rare_class_counts_more():
    features = torch.tensor([[0.0], [0.1], [0.2], [0.3], [5.0], [5.1]])
    labels = torch.tensor([0, 0, 0, 1, 0, 0])
    votes = scores(fit_neighbours(features, labels, 2, 4), features[:1]).exp()
    torch.testing.assert_close(votes, torch.tensor([[3 / 5 / (3 / 5 + 1), 1 / (3 / 5 + 1)]]))


@pytest.mark.parametrize("scale", [0.01, 100.0])
def test_no_unit_and_no_offset_changes_a_score(scale):
    features, labels = rows([20, 9, 4])
    moved = (features.double() * scale + 1000 * scale * features.double().std(dim=0)).float()
    wanted = scores(fit_neighbours(features, labels, 3, 5), features)
    assert float((scores(fit_neighbours(moved, labels, 3, 5), moved) == wanted).double().mean()) > 0.97


@pytest.mark.parametrize("counts", [[1, 1, 1], [5, 0, 2], [6], [99, 1], [2, 1]])
@pytest.mark.parametrize("width", [1, 30])
def test_hard_data_is_defined(counts, width):
    features, labels = rows(counts, width)
    for tried in (features, torch.ones_like(features)):
        found = scores(fit_neighbours(tried, labels, len(counts)), tried)
        assert not bool(torch.isnan(found).any())
        assert bool(torch.isfinite(found.max(dim=1).values).all())
        assert bool((found[:, torch.tensor(counts) == 0] == -torch.inf).all())
