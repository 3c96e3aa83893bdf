"""Coordinates against scikit-learn's, their folding, and features of any unit."""

import pytest
import torch
from sklearn.preprocessing import StandardScaler

from pipeline.classifiers.whitening import fit_whitening


def rows(count: int = 60, width: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=g) * torch.tensor([1.0, 0.1, 10, 3, 1])[:width] + 2, torch.arange(
        count
    ) % 3


def test_each_column_is_standardised_as_scikit_learn_does():
    features, labels = rows()
    wanted = torch.from_numpy(StandardScaler().fit_transform(features.double().numpy())).float()
    torch.testing.assert_close(fit_whitening(features, labels, 3, shrinkage=None).apply(features), wanted)


@pytest.mark.parametrize("shrinkage", [0.0, 0.5, 1.0])
def test_turned_columns_scatter_within_classes_as_the_shrunk_covariance_whitened(shrinkage):
    features, labels = rows()
    columns = fit_whitening(features, labels, 3, shrinkage=None).apply(features).double()
    within = columns - torch.stack([columns[labels == c].mean(dim=0) for c in range(3)])[labels]
    covariance = within.T @ within / (60 - 3)
    target = (1 - shrinkage) * covariance + shrinkage * covariance.trace() / 5 * torch.eye(5, dtype=torch.float64)
    values, axes = torch.linalg.eigh(target)
    wanted = columns @ axes @ torch.diag(values**-0.5) @ axes.T
    turned = fit_whitening(features, labels, 3, shrinkage).apply(features)
    torch.testing.assert_close(turned, wanted.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shrinkage", [None, 0.8])
def test_means_in_the_coordinates_are_those_of_the_rows_there(shrinkage):
    features, labels = rows()
    coordinates = fit_whitening(features, labels, 3, shrinkage)
    raw = torch.stack([features[labels == c].double().mean(dim=0) for c in range(3)])
    there = coordinates.apply(features).double()
    wanted = torch.stack([there[labels == c].mean(dim=0) for c in range(3)])
    torch.testing.assert_close(coordinates.means(raw), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("views", [(), (2,), (2, 3)])
@pytest.mark.parametrize("shrinkage", [None, 0.8])
def test_a_folded_classifier_says_on_raw_features_what_it_says_on_coordinates(views, shrinkage):
    features, labels = rows()
    coordinates = fit_whitening(features, labels, 3, shrinkage)
    weight, bias = torch.randn(*views, 4, 5), torch.randn(*views, 4)
    raw_weight, raw_bias = coordinates.fold(weight, bias)
    logits = coordinates.apply(features) @ weight.mT + bias[..., None, :]
    torch.testing.assert_close(features @ raw_weight.mT + raw_bias[..., None, :], logits, rtol=1e-4, atol=1e-4)
    back_weight, back_bias = coordinates.unfold(raw_weight, raw_bias)
    torch.testing.assert_close(back_weight, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(back_bias, bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("spreads", [0.0, 1000.0])
def test_no_unit_and_no_offset_changes_the_coordinates(scale, spreads):
    features, labels = rows()
    wanted = fit_whitening(features, labels, 3).apply(features)
    moved = (features + spreads * features.std(dim=0)) * scale
    torch.testing.assert_close(fit_whitening(moved, labels, 3).apply(moved), wanted, rtol=0, atol=5e-4)


def test_a_constant_column_contributes_nothing_even_where_a_later_row_differs():
    features, labels = rows()
    features[:, 1] = 0.1
    features[:, 2] = 0
    coordinates = fit_whitening(features, labels, 3)
    assert bool(torch.isfinite(coordinates.turn_DD).all())
    later = coordinates.apply(torch.full((2, 5), 9.0))
    torch.testing.assert_close(later[:, 1:3], torch.zeros(2, 2))
    assert coordinates.columns.scale_D[1:3].tolist() == [1, 1]
    weight, bias = coordinates.fold(torch.ones(3, 5), torch.zeros(3))
    assert torch.equal(weight[:, 1:3], torch.zeros(3, 2))
    assert bool(torch.isfinite(bias).all())


def test_the_rounding_of_a_constant_is_no_spread():
    features, labels = rows()
    features[:, 0] = 1000.0
    features[::2, 0] = torch.nextafter(torch.tensor(1000.0), torch.tensor(2000.0))
    assert fit_whitening(features, labels, 3).columns.varies_D.tolist() == [False, True, True, True, True]


def test_half_precision_and_views_are_taken_as_they_are():
    features, labels = rows()
    views = torch.stack([features, features + 1]).half()
    applied = fit_whitening(views[0], labels, 3).apply(views)
    assert applied.dtype == torch.float32
    assert applied.shape == (2, 60, 5)
    torch.testing.assert_close(applied[0], fit_whitening(views[0], labels, 3).apply(views[0]))


def test_where_no_class_has_two_rows_the_columns_alone_remain():
    features, labels = rows()[0], torch.arange(60)
    torch.testing.assert_close(
        fit_whitening(features, labels, 60).apply(features),
        fit_whitening(features, labels, 60, None).apply(features),
    )


def test_one_row_is_all_constant_and_none_is_an_error():
    features, labels = rows(1)
    assert torch.equal(fit_whitening(features, labels, 3).apply(features), torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"^fit_whitening: no rows$"):
        fit_whitening(features[:0], labels[:0], 3)
