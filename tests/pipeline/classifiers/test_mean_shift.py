"""How far rows move under `transfer`: against means written out class by class, and chosen without the rows it is judged on."""

import pytest
import torch

from pipeline.classifiers.discriminant import Transfer, fit_discriminant, mean_shifts
from pipeline.classifiers.mean_shift import LENDING, likeliest_strength, mean_shift
from pipeline.classifiers.selection import log_likelihoods, row_weights, stratified_folds
from pipeline.features import Features
from pipeline.progress import set_verbosity
from pipeline.settings.stage3 import Retrain

COUNTS = torch.tensor([40, 12, 6, 3, 2])
RECIPE = Retrain(augmentation="transfer")


@pytest.fixture
def detail():
    """Notes as with -v."""
    set_verbosity(2)
    yield
    set_verbosity(1)


def rows(counts=COUNTS, width=6, spread=1.0, seed=0):
    """Classes whose centres scatter by `spread` about two common places; rows scatter by 1 about their centre."""
    g = torch.Generator().manual_seed(seed)
    place = 4 * torch.randn(2, width, generator=g)
    centre = place[torch.arange(len(counts)) % 2] + spread * torch.randn(len(counts), width, generator=g)
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return centre[labels] + torch.randn(len(labels), width, generator=g), labels


def train(counts=COUNTS, **made):
    features, labels = rows(counts, **made)
    return Features(features[None], labels, torch.bincount(labels, minlength=len(counts))).standardised()


@pytest.mark.parametrize("borrow", [0.0, 3.0, "log"])
def test_a_class_moves_by_its_share_towards_the_mixture_of_the_others(borrow):
    split = train()
    features, labels, counts = split.gather(0, torch.arange(len(split.labels_N))).double(), split.labels_N, COUNTS
    means = torch.stack([features[labels == c].mean(dim=0) for c in range(5)])
    within = torch.cat([features[labels == c] - means[c] for c in range(5)])
    scatter = within.T @ within / (len(labels) - 5)
    shrunk = 0.4 * scatter + 0.6 * scatter.trace() / 6 * torch.eye(6).double()
    found = mean_shift(RECIPE.model_copy(update={"borrow": borrow}), split, unseen=True)
    for c in range(5):
        others = [j for j in range(5) if j != c]
        distance = torch.stack(
            [(means[c] - means[j]) @ torch.linalg.solve(shrunk, means[c] - means[j]) for j in others]
        )
        weight = counts[others].double() * torch.exp(-distance / (0.1 * distance.sort().values[1]))
        mixture = (weight / weight.sum()) @ means[others]
        n = counts[c].double()
        share = 0.55 - 0.085 * n.log() if borrow == "log" else borrow / (n + borrow)
        torch.testing.assert_close(found[c].double(), share * (mixture - means[c]), rtol=1e-4, atol=1e-4)


def test_moved_rows_have_the_means_of_the_head_transfer():
    features, labels = rows()
    setting = Transfer(0.6, 3.0)
    moved = features + mean_shifts(features, labels, 5, setting)[labels]
    transferred = [torch.linalg.norm(moved[labels == c].mean(0) - features[labels == c].mean(0)) for c in range(5)]
    assert transferred[0] < min(transferred[1:])
    weight, _ = fit_discriminant(features, labels, 5, setting)
    # In whitened coordinates weights are means; unwhitened, their differences are those of the moved means.
    columns = (features - features.mean(0)).double() / features.double().std(0, correction=0)
    within = columns - torch.stack([columns[labels == c].mean(0) for c in range(5)])[labels]
    scatter = within.T @ within / (len(labels) - 5)
    shrunk = 0.4 * scatter + 0.6 * scatter.trace() / 6 * torch.eye(6).double()
    spread = features.double().std(0, correction=0)
    moved_columns = (moved - features.mean(0)).double() / spread
    wanted = torch.stack([moved_columns[labels == c].mean(0) for c in range(5)])
    torch.testing.assert_close((weight.double() * spread) @ shrunk, wanted, rtol=1e-3, atol=1e-3)


def test_the_strength_is_that_of_the_greatest_likelihood_of_rows_held_out():
    features, labels = rows(torch.tensor([30, 20, 10, 5, 4]), spread=0.4)
    folds = stratified_folds(labels, 5, 5)
    likelihood = {}
    for strength in LENDING:
        scores = torch.empty(len(labels), 5)
        columns = (features - features.mean(0)) / features.std(0, correction=0)
        for fold in range(5):
            kept = folds != fold
            weight, bias = fit_discriminant(columns[kept], labels[kept], 5, Transfer(0.6, strength))
            scores[~kept] = columns[~kept] @ weight.T + bias
        weight_N = row_weights(labels, 5)
        likelihood[strength] = float((weight_N * log_likelihoods(scores, labels, weight_N)[0]).sum())
    best = likeliest_strength(features, labels, 5, folds, 0.6)
    # A fold's columns are standardised anew in the reference, so a near tie may fall either way.
    assert likelihood[best] > max(likelihood.values()) - 5e-3
    assert likelihood[best] > likelihood[0.0]


def test_classes_that_are_far_apart_borrow_less_than_classes_that_are_near():
    chosen = []
    for spread in (0.2, 3.0):
        features, labels = rows(torch.tensor([12] * 6), spread=spread)
        chosen.append(likeliest_strength(features, labels, 6, stratified_folds(labels, 6, 5), 0.6))
    assert chosen[0] > chosen[1]


def test_rows_that_the_backbone_was_trained_on_choose_nothing(capsys, detail):
    split = train()
    law = mean_shift(RECIPE.model_copy(update={"borrow": "log"}), split, unseen=True)
    assert torch.equal(mean_shift(RECIPE, split, unseen=False), law)
    assert "means move by .55 - .085 ln n, since the backbone was trained on these rows" in capsys.readouterr().err


def test_a_val_split_chooses_where_there_is_one(capsys, detail):
    split, val = train(), train(torch.tensor([20] * 5), seed=0)
    found = mean_shift(RECIPE, split, unseen=False, val=val)
    assert "chosen on val" in capsys.readouterr().err
    assert torch.isfinite(found).all()


def test_where_no_row_can_be_held_out_the_setting_of_the_head_holds(capsys, detail):
    split = train(torch.tensor([1, 1, 1]))
    found = mean_shift(RECIPE, split, unseen=True)
    assert "k = 3, which no held-out rows chose" in capsys.readouterr().err
    assert torch.equal(found, mean_shift(RECIPE.model_copy(update={"borrow": 3.0}), split, unseen=True))


def test_an_arm_of_a_table_says_how_far_means_move_only_where_more_is_asked_for(capsys):
    mean_shift(RECIPE, train(), unseen=False)
    assert capsys.readouterr().err == ""


def test_a_class_without_rows_does_not_move_and_lends_nothing():
    split = train(torch.tensor([10, 0, 5, 5]))
    found = mean_shift(RECIPE, split, unseen=True)
    assert torch.equal(found[1], torch.zeros(6))
    assert bool((found[2:] != 0).any(dim=1).all())


@pytest.mark.parametrize("width", [1, 60])
def test_hard_features_give_numbers(width):
    features, labels = rows(torch.tensor([9, 2]), width)
    features[:, 0] = 7.0
    split = Features(features[None], labels, torch.tensor([9, 2])).standardised()
    assert bool(torch.isfinite(mean_shift(RECIPE, split, unseen=True)).all())
