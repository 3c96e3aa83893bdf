"""Coordinates against scikit-learn's, their folding, and features of any unit."""

import pytest
import torch
from sklearn.preprocessing import StandardScaler

from pipeline.coordinates import fit_coordinates


def fit(features_ND):
    return fit_coordinates(lambda: features_ND.split(7))


def rows(count: int = 60, width: int = 5, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=g) * torch.tensor([1.0, 0.1, 10, 3, 1])[:width] + 2


def test_each_column_is_standardised_as_scikit_learn_does():
    features = rows()
    wanted = torch.from_numpy(StandardScaler().fit_transform(features.double().numpy())).float()
    torch.testing.assert_close(fit(features).apply(features), wanted)


@pytest.mark.parametrize("values", [1, 10, 1 << 18])
def test_how_many_values_are_summed_at_a_time_changes_no_bit_of_float16_features(monkeypatch, values):
    features = rows().half()
    wanted = fit(features)
    monkeypatch.setattr("pipeline.coordinates.PART_VALUES", values)
    assert torch.equal(fit(features).offset_D, wanted.offset_D)
    assert torch.equal(fit(features).scale_D, wanted.scale_D)


@pytest.mark.parametrize("views", [(), (2,), (2, 3)])
def test_a_folded_classifier_says_on_raw_features_what_it_says_on_coordinates(views):
    features = rows()
    coordinates = fit(features)
    weight, bias = torch.randn(*views, 4, 5), torch.randn(*views, 4)
    raw_weight, raw_bias = coordinates.fold(weight, bias)
    logits = coordinates.apply(features) @ weight.mT + bias[..., None, :]
    torch.testing.assert_close(features @ raw_weight.mT + raw_bias[..., None, :], logits, rtol=1e-4, atol=1e-4)
    back_weight, back_bias = coordinates.unfold(raw_weight, raw_bias)
    torch.testing.assert_close(back_weight, weight)
    torch.testing.assert_close(back_bias, bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("spreads", [0.0, 1000.0])
def test_no_unit_and_no_offset_changes_the_coordinates(scale, spreads):
    features = rows()
    wanted = fit(features).apply(features)
    moved = (features + spreads * features.std(dim=0)) * scale
    torch.testing.assert_close(fit(moved).apply(moved), wanted, rtol=0, atol=5e-4)


def test_a_constant_column_contributes_nothing_even_where_a_later_row_differs():
    features = rows()
    features[:, 1] = 0.1
    features[:, 2] = 0
    coordinates = fit(features)
    later = coordinates.apply(torch.full((2, 5), 9.0))
    assert torch.equal(later[:, 1:3], torch.zeros(2, 2))
    assert coordinates.scale_D[1:3].tolist() == [1, 1]
    weight, bias = coordinates.fold(torch.ones(3, 5), torch.zeros(3))
    assert torch.equal(weight[:, 1:3], torch.zeros(3, 2))
    assert bool(torch.isfinite(bias).all())


def test_the_rounding_of_a_constant_is_no_spread():
    features = rows()
    features[:, 0] = 1000.0
    features[::2, 0] = torch.nextafter(torch.tensor(1000.0), torch.tensor(2000.0))
    assert fit(features).varies_D.tolist() == [False, True, True, True, True]


def test_half_precision_and_views_are_taken_as_they_are():
    features = rows()
    views = torch.stack([features, features + 1]).half()
    applied = fit(views[0]).apply(views)
    assert applied.dtype == torch.float32
    assert applied.shape == (2, 60, 5)
    torch.testing.assert_close(applied[0].std(dim=0, correction=0), torch.ones(5))


def test_one_row_is_all_constant_and_none_is_an_error():
    features = rows(1)
    assert torch.equal(fit(features).apply(features), torch.zeros(1, 5))
    with pytest.raises(ValueError, match=r"^fit_coordinates: no rows$"):
        fit(features[:0])


def sparse(moved: int, count: int = 400, by: float = 0.001) -> torch.Tensor:
    """Two columns: one at 0 but for some rows, a normal one."""
    features = torch.cat([torch.zeros(count, 1), rows(count, 1)], dim=1)
    features[:moved, 0] = by
    return features


def test_a_column_that_differs_in_one_row_says_next_to_nothing_of_a_row_far_from_it():
    coordinates = fit(sparse(1))
    later = torch.tensor([[0.5, 2.0]])
    spread = float(sparse(1)[:, 0].std(correction=0))
    assert 0.5 / spread > 9000
    assert float(coordinates.apply(later)[0, 0]) < 4


@pytest.mark.parametrize("moved", [1, 2, 4, 8, 15, 40])
def test_a_column_counts_by_the_rows_that_its_variance_rests_on(moved):
    count = 400
    p = moved / count
    # N times the variance squared over the fourth moment of a coin.
    effective = count * p * (1 - p) / (1 - 3 * p * (1 - p))
    made = fit(sparse(moved)).apply(sparse(moved))
    share = min(1.0, (effective - 1) / 15)
    torch.testing.assert_close(made[:, 0].std(correction=0), torch.tensor(share), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(made[:, 1].std(correction=0), torch.tensor(1.0))


@pytest.mark.parametrize("by", [1e-6, 1.0, 1e6])
def test_no_unit_of_a_sparse_column_matters(by):
    wanted = fit(sparse(5)).apply(sparse(5))
    torch.testing.assert_close(fit(sparse(5, by=by)).apply(sparse(5, by=by)), wanted, rtol=1e-4, atol=1e-6)


def test_of_a_few_rows_each_column_counts_in_full():
    features = sparse(1, count=8)
    torch.testing.assert_close(fit(features).apply(features)[:, 0].std(correction=0), torch.tensor(1.0))


def test_of_some_rows_an_eighth_is_what_a_column_must_rest_on():
    features = sparse(2, count=40)
    p = 2 / 40
    effective = 40 * p * (1 - p) / (1 - 3 * p * (1 - p))
    share = (effective - 1) / (40 / 8 - 1)
    assert 0.2 < share < 0.4
    torch.testing.assert_close(
        fit(features).apply(features)[:, 0].std(correction=0), torch.tensor(share), rtol=1e-3, atol=0
    )


def test_where_it_is_said_every_column_counts_in_full():
    features = sparse(1)
    made = fit_coordinates(lambda: features.split(7), by_support=False).apply(features)
    torch.testing.assert_close(made.std(dim=0, correction=0), torch.ones(2))
