"""Classifiers that train nothing, against their definitions."""

import torch
from sklearn.neighbors import NearestCentroid

from pipeline.classifiers import post_hoc as posthoc


def test_logit_adjustment_subtracts_tau_log_prior():
    bias, counts = torch.randn(3), torch.tensor([90, 9, 1])
    wanted = bias - 0.5 * torch.log(torch.tensor([0.9, 0.09, 0.01]))
    torch.testing.assert_close(posthoc.logit_adjustment(bias, counts, 0.5), wanted)


def test_tau_normalisation_at_its_ends():
    weight = torch.randn(3, 4)
    torch.testing.assert_close(posthoc.tau_normalised(weight, 0.0), weight)
    torch.testing.assert_close(posthoc.tau_normalised(weight, 1.0).norm(dim=1), torch.ones(3))


def test_nearest_class_mean_is_the_cosine_to_the_mean_direction():
    g = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 5, generator=g), torch.arange(60) % 3
    weight, bias = posthoc.nearest_class_mean([(features[:25], labels[:25]), (features[25:], labels[25:])], 4, 5)
    unit = features / features.norm(dim=1, keepdim=True)
    means = torch.stack([unit[labels == c].mean(dim=0) for c in range(3)])
    tested = torch.randn(20, 5, generator=g)
    wanted = torch.cosine_similarity(tested[:, None], means[None], dim=2).argmax(dim=1)
    assert torch.equal((tested @ weight.T + bias).argmax(dim=1), wanted)
    assert bias.tolist() == [0, 0, 0, -torch.inf]


def test_the_nearest_class_mean_in_euclidean_distance_is_scikit_learns():
    g = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([30, 9, 2]))
    features = torch.randn(3, 5, generator=g)[labels] + torch.randn(41, 5, generator=g)
    weight, bias = posthoc.nearest_class_mean(
        [(features[::2], labels[::2]), (features[1::2], labels[1::2])], 4, 5, "l2"
    )
    tested = torch.randn(200, 5, generator=g)
    wanted = NearestCentroid().fit(features.numpy(), labels.numpy()).predict(tested.numpy())
    assert (tested @ weight.T + bias).argmax(dim=1).tolist() == wanted.tolist()
    assert bias[3] == -torch.inf
