"""Head classes, the nearest of them, and the closed form."""

import pytest
import torch

from pipeline.augment.transfer import nearest_head
from pipeline.errors import DataError
from pipeline.features import Features
from pipeline.longtail import head_classes
from pipeline.settings.stage2 import STG
from pipeline.stg.statistics import closed_form, head_statistics, transformation_targets


def test_head_classes_are_those_above_the_threshold():
    assert head_classes([500, 101, 100, 30, 5], STG()) == [0, 1]


def test_where_most_classes_are_large_the_largest_share_is_head():
    # CIFAR-10-LT, imbalance factor 100: eight of ten classes have more than 100 samples
    counts = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert head_classes(counts, STG()) == [0, 1, 2, 3]


def test_a_number_of_head_classes_ignores_their_order():
    assert head_classes([5, 90, 7, 200], STG(head_classes=2)) == [1, 3]


def test_where_no_class_has_a_hundred_rows_the_largest_share_is_head():
    assert head_classes([60, 50, 9, 5, 3], STG()) == [0, 1]
    assert head_classes([3, 1], STG()) == [0]


def test_no_tail_class():
    with pytest.raises(DataError) as error:
        head_classes([300, 200, 150], STG(head_classes=3))
    assert str(error.value) == (
        "no tail class: all 3 classes are head classes, so nothing would be augmented; "
        "raise stg.head_above or set stg.head_classes to fewer"
    )


def test_nearest_head_by_distance_survives_an_offset():
    g = torch.Generator().manual_seed(0)
    centroids, features = torch.randn(5, 8, generator=g), torch.randn(40, 8, generator=g)
    wanted = torch.cdist(features, centroids).argmin(dim=1)
    assert torch.equal(nearest_head(features, centroids), wanted)
    assert torch.equal(nearest_head(features + 1000, centroids + 1000), wanted)


def test_nearest_head_by_cosine_and_by_logit():
    g = torch.Generator().manual_seed(1)
    centroids, features = torch.randn(5, 8, generator=g), torch.randn(40, 8, generator=g)
    wanted = torch.cosine_similarity(features[:, None], centroids[None], dim=2).argmax(dim=1)
    assert torch.equal(nearest_head(features, centroids, "cosine"), wanted)
    bias = torch.randn(5, generator=g)
    wanted = (features @ centroids.T + bias).argmax(dim=1)
    assert torch.equal(nearest_head(features, torch.zeros(5, 8), "logit", centroids, bias), wanted)


def test_closed_form_is_equation_1_for_head_samples():
    features, labels = torch.randn(50, 6), torch.arange(50) % 2
    statistics = head_statistics(Features(features[None], labels, torch.bincount(labels)), [0, 1])
    mean, variance = closed_form(features, labels, statistics)
    wanted_mean, wanted_variance, _ = transformation_targets(features, labels, features, labels)
    torch.testing.assert_close(mean, wanted_mean)
    torch.testing.assert_close(variance, wanted_variance)
