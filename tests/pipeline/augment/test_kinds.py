"""Eq. 3 and 4 against the paper's formulas."""

import pytest
import torch

from pipeline.augment.kinds import class_strength, mix, transform


def test_class_strength_is_the_papers_beta():
    beta = class_strength(torch.tensor([400, 100, 25, 4]))
    torch.testing.assert_close(beta, torch.tensor([0.1, 0.2, 0.4, 1.0]))


def test_an_empty_class_has_no_strength_and_is_not_the_smallest():
    torch.testing.assert_close(class_strength(torch.tensor([16, 0, 4])), torch.tensor([0.5, 0.0, 1.0]))


def test_all_classes_empty_is_an_error():
    with pytest.raises(ValueError, match="every class is empty"):
        class_strength(torch.zeros(3, dtype=torch.long))


def test_transform_is_equation_3():
    features, mean, variance = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 3)
    strength = torch.tensor([0.0, 0.5, 1.0, 2.0])
    epsilon = torch.randn(4, 3, generator=torch.Generator().manual_seed(5))
    found = transform(features, mean, variance, strength, torch.Generator().manual_seed(5))
    for i in range(4):
        wanted = features[i] + (variance[i] ** 0.5 * epsilon[i] + mean[i]) * strength[i]
        torch.testing.assert_close(found[i], wanted)
    assert torch.equal(found[0], features[0])


def test_transform_has_the_predicted_moments():
    mean, variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 0.25]])
    many = transform(torch.zeros(40_000, 2), mean, variance, torch.ones(40_000), torch.Generator().manual_seed(0))
    torch.testing.assert_close(many.mean(dim=0), mean[0], atol=0.05, rtol=0)
    torch.testing.assert_close(many.var(dim=0), variance[0], atol=0.1, rtol=0.05)


def test_mix_takes_a_share_of_dimensions():
    zeros, ones = torch.zeros(500, 64), torch.ones(500, 64)
    mixed = mix(zeros, ones, 0.3, torch.Generator().manual_seed(1))
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    assert abs(float(mixed.mean()) - 0.3) < 0.01
    # per dimension, not per sample
    assert 0 < float(mixed[0].mean()) < 1


@pytest.mark.parametrize(("threshold", "wanted"), [(0.0, 0.0), (1.0, 1.0)])
def test_mix_at_its_ends(threshold, wanted):
    mixed = mix(torch.zeros(50, 8), torch.ones(50, 8), threshold, torch.Generator().manual_seed(1))
    assert mixed.unique().tolist() == [wanted]
