"""The soft generator: its closed form written out class by class, what episodes ask for, and its way through stages 2 and 3."""

import math

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline import retrain
from pipeline.augment import augmentation_for
from pipeline.errors import DataError, LineageError
from pipeline.features import Features
from pipeline.report.tables import distance_line
from pipeline.settings import Settings
from pipeline.settings.load import load
from pipeline.settings.stage2 import STG
from pipeline.settings.stage3 import Retrain
from pipeline.stage2_stg import train_stg
from pipeline.stg import trained as stg_file
from pipeline.stg.episodes import fit_soft, split_heads
from pipeline.stg.soft import SoftGenerator, estimate, lenders

COUNTS = (40, 30, 24, 20, 16, 12, 3, 1)
HEADS = 6


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """What these tests look at shows in few steps."""
    monkeypatch.setattr("pipeline.stg.episodes.CEILING", 150)


def rows(counts=COUNTS, width=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    centres = 2 * torch.randn(len(counts), width, generator=g)
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    features = centres[labels] + torch.randn(len(labels), width, generator=g)
    return Features(features[None], labels, torch.tensor(counts)).standardised()


def _settings(*more, similarity="soft"):
    return load(
        overrides=[f"stg.similarity={similarity}", f"stg.head_classes={HEADS}", "retrain.epochs=2", *more]
    ).settings


def test_an_untrained_generator_is_the_closed_form():
    train = rows()
    features, labels = train.gather(0, torch.arange(len(train.labels_N))).double(), train.labels_N
    mean = torch.stack([features[labels == c].mean(dim=0) for c in range(len(COUNTS))])
    variance = torch.stack([features[labels == c].var(dim=0, correction=0) for c in range(len(COUNTS))])
    head_rows = sum(COUNTS[:HEADS])
    within = sum(COUNTS[c] * variance[c] for c in range(HEADS)) / (head_rows - HEADS)
    lending = lenders(mean[:HEADS].float(), variance[:HEADS].float(), torch.tensor(COUNTS[:HEADS]))
    own = torch.tensor([*range(HEADS), -1, -1])
    found_mean, found_variance = estimate(SoftGenerator(lending), mean.float(), torch.tensor(COUNTS), own)
    for c, n in enumerate(COUNTS):
        others = [h for h in range(HEADS) if h != c]
        distance = torch.stack([((mean[c] - mean[h]) ** 2 / within).sum() for h in others])
        weight = torch.tensor([COUNTS[h] for h in others]).double()
        weight = weight * torch.exp(-distance / (0.1 * distance.sort().values[(len(others) - 1) // 2]))
        weight = weight / weight.sum()
        share = 2 / (n + 2)
        wanted = (1 - share) * mean[c] + share * weight @ mean[others]
        torch.testing.assert_close(found_mean[c].double(), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found_variance[c].double(), weight @ variance[others], rtol=1e-4, atol=1e-4)


def test_an_episode_shows_at_most_half_of_a_class_and_asks_for_the_rest():
    train = rows()
    heads = split_heads(train, STG(head_classes=HEADS), 0)
    episodes = heads.draw(heads.fitted, 300, torch.Generator().manual_seed(1))
    for e in range(300):
        position = heads.fitted[int(episodes.own_E[e])]
        of_class = train.gather(0, (train.labels_N == heads.heads[position]).nonzero()[:, 0])
        n, shown = len(of_class), int(episodes.count_E[e])
        assert 1 <= shown <= n // 2
        whole = (shown * episodes.shown_ED[e] + (n - shown) * episodes.mean_ED[e]) / n
        torch.testing.assert_close(whole, of_class.mean(dim=0), rtol=1e-4, atol=1e-4)
        if shown == 1:  # the row shown is one of the class; the others have this variance
            row = (of_class - episodes.shown_ED[e]).norm(dim=1).argmin()
            rest = torch.cat([of_class[:row], of_class[row + 1 :]])
            torch.testing.assert_close(episodes.log_variance_ED[e].exp(), rest.var(dim=0), rtol=1e-3, atol=1e-4)
    assert len(set(episodes.count_E.tolist())) > 8
    assert 1 in episodes.count_E


def test_held_out_classes_are_neither_shown_nor_lent():
    heads = split_heads(rows(), STG(head_classes=HEADS), 0)
    assert sorted([*heads.fitted, *heads.held_out]) == list(range(HEADS))
    assert heads.held_out
    episodes = heads.draw(heads.held_out, 20, torch.Generator().manual_seed(1))
    assert set(episodes.own_E.tolist()) == {-1}


def test_what_comes_back_is_no_worse_than_the_closed_form_and_repeats():
    heads = split_heads(rows(), STG(head_classes=HEADS), 0)
    stg, steps, error, distance = fit_soft(heads, 0)
    again, *rest = fit_soft(heads, 0)
    assert all(torch.equal(a, b) for a, b in zip(stg.state_dict().values(), again.state_dict().values(), strict=True))
    assert rest == [steps, error, distance]
    assert distance.closed_form_ratio is not None
    if steps == 0:
        assert distance.zero_shift_ratio == distance.closed_form_ratio
    # In the end every head class lends.
    assert stg.lenders().count_H.tolist() == list(COUNTS[:HEADS])


def test_it_learns_to_borrow_more_where_classes_are_alike():
    shares = []
    for spread in (0.1, 6.0):
        g = torch.Generator().manual_seed(0)
        labels = torch.repeat_interleave(torch.arange(12), 30)
        features = (spread * torch.randn(12, 8, generator=g))[labels] + torch.randn(len(labels), 8, generator=g)
        train = Features(features[None], labels, torch.full((12,), 30)).standardised()
        stg, *_ = fit_soft(split_heads(train, STG(head_classes=10), 0), 0)
        shares.append(float(torch.sigmoid(stg.log_strength.detach() - math.log(5))))
    assert shares[0] > shares[1]


def test_a_row_moves_towards_what_is_estimated_of_its_own_class():
    train = rows()
    settings = Settings(stg=STG(similarity="soft", head_classes=HEADS), retrain=Retrain(augmentation="closed-form"))
    augmentation = augmentation_for(settings, train, None, None)
    assert augmentation.beta_C.tolist() == [0.0] * HEADS + [1.0, 1.0]
    index = (train.labels_N == 6).nonzero()[:, 0]
    features = train.gather(0, index)
    mean, deviation = augmentation.transformations(features, index)
    goal = mean + features
    torch.testing.assert_close(goal, goal[:1].expand_as(goal))
    assert bool((deviation > 0).all())


def test_stages_2_and_3_with_a_soft_generator(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=COUNTS))
    folder, result = train_stg(_settings(), cache, tmp_path)
    assert result.held_out.closed_form_ratio is not None
    stored, _ = stg_file.load(folder, cache, "standard")
    assert isinstance(stored.stg, SoftGenerator)
    assert stored.heads == list(range(HEADS))
    _, first = retrain(_settings(), cache, tmp_path, folder)
    assert 20 < first.balanced_accuracy <= 100
    _, closed = retrain(_settings("retrain.augmentation=closed-form"), cache, tmp_path)
    assert closed.digest != first.digest or result.steps == 0


@pytest.mark.parametrize("learnt", ["soft", "l2"])
def test_a_generator_of_the_other_kind_is_refused(stores, tmp_path, learnt):
    cache = write_cache(stores, Blobs(counts=COUNTS))
    other = {"soft": "l2", "l2": "soft"}[learnt]
    folder, _ = train_stg(_settings("stg.epochs=1", similarity=learnt), cache, tmp_path)
    made = {"soft": "a soft mixture of head classes", "l2": "the nearest head class"}[learnt]
    with pytest.raises(LineageError) as error:
        retrain(_settings(similarity=other), cache, tmp_path, folder)
    assert str(error.value) == (
        f"stg.similarity={other}: the generator was learnt for {made}; run train-stg with the same setting"
    )


def test_too_few_head_classes_are_an_error():
    with pytest.raises(DataError) as error:
        split_heads(rows(), STG(head_classes=3), 0)
    assert str(error.value) == (
        "stg.similarity=soft: learns from 4 or more head classes of 4 or more rows, found 3; raise stg.head_classes, or use "
        "stg.similarity=l2"
    )


def test_the_line_below_the_table_says_what_the_soft_generator_is_measured_by():
    _, _, _, distance = fit_soft(split_heads(rows(), STG(head_classes=HEADS), 0), 0)
    shown = distance.model_copy(
        update={"zero_shift_ratio": 0.5, "closed_form_ratio": 0.6, "mean_cosine": 0.7, "mean_norm_ratio": 0.8}
    )
    assert distance_line(shown) == (
        "soft STG on 256 episodes of held-out head classes: error of the means 0.500 of that of no shift, its closed form's "
        "0.600; cosine 0.700, norm ratio 0.80"
    )


@pytest.mark.parametrize(("scale", "spreads"), [(0.01, 0.0), (100.0, 0.0), (1.0, 1000.0)])
def test_no_unit_of_the_features_matters(scale, spreads):
    train, settings = rows(), Settings(stg=STG(similarity="soft", head_classes=HEADS))
    raw_ND = train.features_VND[0]
    other = Features(
        ((raw_ND + spreads * raw_ND.std(dim=0)) * scale)[None], train.labels_N, train.counts_C
    ).standardised()
    closed = settings.model_copy(update={"retrain": Retrain(augmentation="closed-form")})
    index = torch.arange(len(train.labels_N))
    wanted = augmentation_for(closed, train, None, None).transformations(train.gather(0, index), index)
    found = augmentation_for(closed, other, None, None).transformations(other.gather(0, index), index)
    for moved, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=2e-3)
