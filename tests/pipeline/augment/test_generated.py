"""Generated features: their moments, which rows are replaced, whom they borrow from; H2T's channels."""

import pytest
import torch

from pipeline.augment import generated
from pipeline.augment.kinds import KINDS, Augmentation, Draw, augment
from pipeline.errors import ConfigError
from pipeline.features import Features
from pipeline.settings import Settings
from pipeline.settings.stage3 import Retrain

COUNTS = torch.tensor([400, 300, 20, 10])
HEADS = (0, 1)


@pytest.fixture
def train():
    g = torch.Generator().manual_seed(0)
    labels = torch.repeat_interleave(torch.arange(4), COUNTS)
    centres = torch.tensor([[0.0, 0, 0], [6, 0, 0], [1, 5, 0], [5, 5, 0]])
    mixing = torch.randn(4, 3, 3, generator=g)
    noise = torch.randn(len(labels), 3, generator=g)
    features = centres[labels] + (mixing[labels] @ noise[..., None])[..., 0]
    return Features(features[None], labels, COUNTS)


def draw_of(train, row, times, uniform=0.0):
    rows = torch.full((1, times), row)
    g = torch.Generator().manual_seed(1)
    uniforms = torch.full((1, times, 3), uniform)
    return Draw(train.gather(0, rows), train.labels_N[rows], rows, torch.randn(1, times, 3, generator=g), uniforms)


def settings_of(**retrain):
    return Settings.model_validate({"retrain": retrain, "stg": {"head_classes": len(HEADS)}})


def test_the_share_that_is_generated_makes_classes_equally_large():
    torch.testing.assert_close(generated.generated_share(COUNTS), torch.tensor([0.0, 0.25, 0.95, 0.975]))


def test_class_gaussians_have_their_class_moments(train):
    generate = generated.class_gaussian(settings_of(), train)
    made = generate(draw_of(train, 705, 20_000))[0]
    own = train.features_VND[0, train.labels_N == 2]
    torch.testing.assert_close(made.mean(dim=0), own.mean(dim=0), atol=0.05, rtol=0.02)
    torch.testing.assert_close(made.var(dim=0), own.var(dim=0, correction=0), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_calibrated_draws_have_the_moments_of_equations_6_and_7(train, covariance):
    settings = settings_of(neighbour_classes=2, spread=0.21, covariance=covariance)
    generate = generated.distribution_calibration(settings, train)
    made = generate(draw_of(train, 705, 40_000))[0]
    features = train.features_VND[0]
    heads = [features[train.labels_N == c] for c in HEADS]
    mean = (features[705] + heads[0].mean(dim=0) + heads[1].mean(dim=0)) / 3
    wanted = (torch.cov(heads[0].T) + torch.cov(heads[1].T)) / 2 + 0.21
    torch.testing.assert_close(made.mean(dim=0), mean, atol=0.06, rtol=0.02)
    found = torch.cov(made.T)
    if covariance == "diagonal":
        found, wanted = found.diagonal(), wanted.diagonal()
    torch.testing.assert_close(found, wanted, atol=0.12, rtol=0.05)


def test_calibration_borrows_from_heads_and_leaves_them_alone(train):
    generate = generated.distribution_calibration(settings_of(neighbour_classes=1, spread=0.0), train)
    head_row = draw_of(train, 3, 5)
    assert torch.equal(generate(head_row), head_row.features_SBD)
    nearest = draw_of(train, 725, 20_000)  # of class 3, nearest to head class 1
    wanted = (train.features_VND[0, 725] + train.features_VND[0, train.labels_N == 1].mean(dim=0)) / 2
    torch.testing.assert_close(generate(nearest)[0].mean(dim=0), wanted, atol=0.06, rtol=0.02)


def test_tailcalibx_borrows_from_every_class_its_own_included(train):
    generate = generated.tailcalibx(settings_of(neighbour_classes=1, spread=0.0), train)
    made = generate(draw_of(train, 725, 20_000))[0]
    own = train.features_VND[0, train.labels_N == 3]
    torch.testing.assert_close(made.mean(dim=0), (own[5] + own.mean(dim=0)) / 2, atol=0.06, rtol=0.02)


def test_a_row_is_replaced_with_its_class_probability(train):
    generate = generated.tailcalibx(settings_of(neighbour_classes=1), train)
    for uniform, replaced in ((0.94, True), (0.96, False)):
        draw = draw_of(train, 705, 4, uniform)
        assert torch.equal(generate(draw), draw.features_SBD) is not replaced


def test_a_flat_row_of_a_selection_finds_its_own_neighbours(train):
    rows = torch.arange(700, 730)
    some = train.select(rows)
    whole = generated.tailcalibx(settings_of(neighbour_classes=1, spread=0.0), train)
    part = generated.tailcalibx(settings_of(neighbour_classes=1, spread=0.0), some)
    picked = torch.tensor([[26]])
    draw = Draw(
        some.gather(0, picked), some.labels_N[picked], some.flat(0, picked), torch.zeros(1, 1, 3), torch.zeros(1, 1, 3)
    )
    own = draw_of(train, 726, 1)
    own = Draw(own.features_SBD, own.labels_SB, own.flat_SB, torch.zeros(1, 1, 3), own.uniform_SBD)
    torch.testing.assert_close(part(draw)[0], whole(own)[0])


def test_full_factors_that_want_too_much_are_refused(train, monkeypatch):
    monkeypatch.setattr(generated, "FACTORS_LIMIT", 10)
    with pytest.raises(ConfigError) as error:
        generated.tailcalibx(settings_of(neighbour_classes=1, covariance="full"), train)
    assert str(error.value) == (
        "retrain.covariance=full: 4 sets of classes of width 3 want 0 GiB; set retrain.covariance=diagonal"
    )


def test_h2t_takes_the_same_channels_of_all_rows_from_others():
    features, others = torch.zeros(2, 6, 8), torch.ones(2, 6, 8)
    uniform = torch.rand(2, 6, 8, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(2, 6, dtype=torch.long)
    draw = Draw(features, nothing, nothing, torch.empty(0), uniform, others)
    augmentation = Augmentation(KINDS["h2t"], None, torch.zeros(3))
    found = augment(draw, [Retrain(fused=0.3)], augmentation)
    assert found.shape == (1, 2, 6, 8)
    for seed in range(2):
        chosen = uniform[seed, 0] <= uniform[seed, 0].sort().values[1]  # floor(0.3 * 8) = 2 channels
        assert torch.equal(found[0, seed], chosen.float().expand(6, 8))
