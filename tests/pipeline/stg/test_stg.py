"""Eq. 1 and its parts, against the pairwise set the paper writes down."""

import pytest
import torch

from pipeline.features import Features
from pipeline.settings.stage2 import STG
from pipeline.stg.estimator import FeatureMemory, TargetEstimator
from pipeline.stg.generator import SemanticTransformationGenerator, regression_loss
from pipeline.stg.statistics import class_statistics, transformation_targets


def _reference_targets(features, labels, pool, pool_labels, include_self=True):
    """Eq. 1 as printed: form the set {a_j - a_i}, then its mean and its biased variance."""
    means, variances, valid = [], [], []
    for i in range(len(features)):
        same = (pool_labels == labels[i]).nonzero()[:, 0]
        if not include_self:
            same = same[same != i]
        differences = pool[same] - features[i]
        mean = differences.mean(dim=0)
        means.append(mean)
        variances.append(((mean - differences) ** 2).mean(dim=0))
        valid.append(len(same) >= 2)
    return torch.stack(means), torch.stack(variances), torch.tensor(valid)


def _batch(seed=0, b=24, m=40, d=7, classes=4):
    g = torch.Generator().manual_seed(seed)
    pool = torch.randn(b + m, d, generator=g, dtype=torch.float64).float()
    labels = torch.randint(classes, (b + m,), generator=g)
    return pool[:b], labels[:b], pool, labels


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_targets_equal_the_pairwise_set(seed, include_self):
    batch = _batch(seed)
    mean, variance, valid = transformation_targets(*batch, include_self=include_self)
    wanted_mean, wanted_variance, wanted_valid = _reference_targets(*batch, include_self=include_self)
    assert torch.equal(valid, wanted_valid)
    torch.testing.assert_close(mean[valid], wanted_mean[valid], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(variance[valid], wanted_variance[valid], atol=1e-5, rtol=1e-4)


def test_a_sample_alone_in_its_class_is_not_valid():
    features, labels = torch.randn(3, 5), torch.tensor([0, 0, 1])
    _, _, valid = transformation_targets(features, labels, features, labels)
    assert valid.tolist() == [True, True, False]


def test_a_label_beyond_the_pool_is_not_valid():
    pool, pool_labels = torch.randn(4, 5), torch.zeros(4, dtype=torch.long)
    _, _, valid = transformation_targets(torch.randn(2, 5), torch.tensor([0, 9]), pool, pool_labels)
    assert valid.tolist() == [True, False]


def test_a_large_common_offset_does_not_destroy_the_variance():
    features, labels, pool, pool_labels = _batch(d=6)
    offset = 4096.0  # exact in float32, far above the spread of 1
    _, near, _ = transformation_targets(features, labels, pool, pool_labels)
    rounded = pool + offset
    _, far, _ = transformation_targets(rounded[: len(features)], labels, rounded, pool_labels)
    reference = _reference_targets(rounded[: len(features)].double(), labels, rounded.double(), pool_labels)[1]
    torch.testing.assert_close(far.double(), reference, atol=1e-6, rtol=1e-5)
    assert (far - near).abs().max() < 2e-3


def test_mismatched_rows_are_refused():
    with pytest.raises(ValueError, match="as many labels as features"):
        transformation_targets(torch.randn(2, 3), torch.tensor([0]), torch.randn(2, 3), torch.tensor([0, 0]))


def test_class_statistics_of_an_empty_class_are_zero():
    found = class_statistics(torch.randn(4, 3) + 5, torch.tensor([0, 0, 2, 2]), 3)
    assert found.count_C.tolist() == [2, 0, 2]
    assert found.mean_CD[1].tolist() == [0, 0, 0]
    assert found.variance_CD[1].tolist() == [0, 0, 0]


def test_memory_is_first_in_first_out_and_counts_features():
    memory = FeatureMemory(5)
    seen = torch.arange(12.0)[:, None]
    for start in range(0, 12, 3):
        memory.push(seen[start : start + 3], torch.arange(start, start + 3))
    pool, labels = memory.pool(torch.full((1, 1), 99.0), torch.tensor([99]))
    assert len(pool) == 6
    assert set(labels.tolist()) == {99, 11, 10, 9, 8, 7}
    assert torch.equal(pool[:, 0].long(), labels)


def test_memory_of_size_zero_is_the_batch():
    memory = FeatureMemory(0)
    memory.push(torch.randn(3, 2), torch.zeros(3, dtype=torch.long))
    batch = torch.randn(2, 2)
    assert memory.pool(batch, torch.zeros(2, dtype=torch.long))[0] is batch


def test_generator_has_the_papers_shape_and_positive_variance():
    stg = SemanticTransformationGenerator(width=6, heads=3)
    sizes = [tuple(p.shape) for n, p in stg.named_parameters() if "mean_net" in n and p.dim() == 2]
    assert sizes == [(12, 6), (12, 12), (6, 12)]
    mean, variance = stg(torch.randn(8, 6) * 100, torch.randint(3, (8,)))
    assert mean.shape == variance.shape == (8, 6)
    assert (variance > 0).all()
    assert torch.isfinite(variance).all()


def test_generator_reads_the_token_of_the_head_class():
    stg = SemanticTransformationGenerator(width=4, heads=2, token_std=1.0).eval()
    features = torch.randn(5, 4)
    zero, one = torch.zeros(5, dtype=torch.long), torch.ones(5, dtype=torch.long)
    moved = features + stg.tokens_HD[0] - stg.tokens_HD[1]
    torch.testing.assert_close(stg(features, zero)[0], stg(moved, one)[0])
    assert not torch.allclose(stg(features, zero)[0], stg(features, one)[0])


def test_kl_equals_torchs():
    mean, target = torch.randn(6, 3), torch.randn(6, 3)
    variance, wanted = torch.rand(6, 3) + 0.1, torch.rand(6, 3) + 0.1
    normal = torch.distributions.Normal
    reference = torch.distributions.kl_divergence(normal(target, wanted.sqrt()), normal(mean, variance.sqrt())).mean()
    torch.testing.assert_close(regression_loss(mean, variance, target, wanted, "kl"), reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mse-log", "mse", "kl", "nll", "l1"])
def test_every_loss_is_smallest_at_its_target(kind):
    target, wanted = torch.randn(6, 3), torch.rand(6, 3) + 0.1
    at = regression_loss(target, wanted, target, wanted, kind)
    assert at < regression_loss(target + 0.1, wanted, target, wanted, kind)
    assert at < regression_loss(target, wanted * 1.3, target, wanted, kind)
    assert at < regression_loss(target, wanted / 1.3, target, wanted, kind)


def test_unknown_loss_names_the_kinds():
    with pytest.raises(ValueError, match="unknown kind 'l3'; wanted mse-log, mse, kl, nll or l1"):
        regression_loss(*[torch.ones(1, 1)] * 4, "l3")


def _fit_rows(n=60, d=4, classes=3):
    g = torch.Generator().manual_seed(3)
    labels = torch.arange(n) % classes
    return Features(torch.randn(1, n, d, generator=g), labels, torch.bincount(labels))


def test_class_smoothing_is_exponential_in_mean_and_variance():
    fit = _fit_rows()
    estimator = TargetEstimator(fit, STG(memory=0, smoothing="class", smoothing_momentum=0.9))
    first, second = torch.arange(30), torch.arange(30, 60)
    estimator(fit.features_VND[0][first], fit.labels_N[first], first)
    mean, variance, _ = estimator(fit.features_VND[0][second], fit.labels_N[second], second)
    one = class_statistics(fit.features_VND[0][first], fit.labels_N[first], 3)
    two = class_statistics(fit.features_VND[0][second], fit.labels_N[second], 3)
    y = fit.labels_N[second]
    wanted_mean = (0.9 * one.mean_CD + 0.1 * two.mean_CD)[y] - fit.features_VND[0][second]
    wanted_variance = (0.9 * one.variance_CD + 0.1 * two.variance_CD)[y]
    torch.testing.assert_close(mean, wanted_mean)
    torch.testing.assert_close(variance, wanted_variance)


def test_sample_smoothing_is_exponential_for_a_sample_seen_again():
    fit = _fit_rows()
    estimator = TargetEstimator(fit, STG(memory=0, smoothing="sample", smoothing_momentum=0.8))
    plain = TargetEstimator(fit, STG(memory=0, smoothing="none"))
    one, two = torch.arange(30), torch.cat([torch.arange(10), torch.arange(30, 50)])
    first = plain(fit.features_VND[0][one], fit.labels_N[one], one)
    second = plain(fit.features_VND[0][two], fit.labels_N[two], two)
    estimator(fit.features_VND[0][one], fit.labels_N[one], one)
    mean, variance, _ = estimator(fit.features_VND[0][two], fit.labels_N[two], two)
    torch.testing.assert_close(mean[:10], 0.8 * first[0][:10] + 0.2 * second[0][:10])
    torch.testing.assert_close(variance[:10], 0.8 * first[1][:10] + 0.2 * second[1][:10])
    torch.testing.assert_close(mean[10:], second[0][10:])


def test_full_statistics_are_those_of_all_rows():
    fit = _fit_rows()
    estimator = TargetEstimator(fit, STG(full_statistics=True))
    rows = torch.arange(5)
    mean, variance, valid = estimator(fit.features_VND[0][rows], fit.labels_N[rows], rows)
    wanted = _reference_targets(fit.features_VND[0][rows], fit.labels_N[rows], fit.features_VND[0], fit.labels_N)
    torch.testing.assert_close(mean, wanted[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(variance, wanted[1], atol=1e-5, rtol=1e-4)
    assert valid.all()


def test_sample_smoothing_is_right_for_every_view():
    fit = _fit_rows()
    views = torch.cat([fit.features_VND, fit.features_VND + 10])
    fit = Features(views, fit.labels_N, fit.counts_C)
    estimator = TargetEstimator(fit, STG(memory=0, smoothing="sample"))
    rows = torch.arange(60)
    clean, _, _ = estimator(fit.features_VND[0], fit.labels_N, rows)
    moved, _, _ = estimator(fit.features_VND[1], fit.labels_N, rows)
    # the goal moves by a tenth of the way, the sample by all of it
    torch.testing.assert_close(moved, clean + 1 - 10, atol=1e-4, rtol=1e-4)
