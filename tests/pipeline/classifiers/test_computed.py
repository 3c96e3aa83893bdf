"""Heads that choose their own strengths, and the head of vector scaling, on rows of a cache."""

import pytest
import torch

from pipeline.augment import UNCHANGED
from pipeline.classifiers import candidates, held_out
from pipeline.classifiers.candidates import Logistic
from pipeline.classifiers.discriminant import Transfer, fit_discriminant
from pipeline.classifiers.kinds import kind
from pipeline.classifiers.problem import Problem
from pipeline.features import Features
from pipeline.settings.stage3 import Retrain

COUNTS = torch.tensor((60, 25, 10, 4))


def split(counts=COUNTS, seed=1, width=6, spread=1.5):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(len(counts), width, generator=torch.Generator().manual_seed(0))
    labels = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return Features((centres[labels] + spread * torch.randn(len(labels), width, generator=g))[None], labels, counts)


def problem(retrain, train=None, stage1=None, unseen=True, val=None, metric="balanced"):
    retrain = retrain.settled(chooses=unseen or val is not None)
    return Problem(retrain, train or split(), [0], stage1, UNCHANGED, unseen, False, val, metric, "toy")


def plain(rows):
    return rows.features_VND[0], rows.labels_N


@pytest.mark.parametrize("head", ["logistic", "lda", "transfer"])
def test_an_automatic_strength_is_the_likeliest_on_folds_and_a_given_one_is_kept(head):
    fitted = kind(head)(problem(Retrain(head=head)))
    (name,) = fitted.selection.members
    assert fitted.selection.on == "5-fold cross-validation"
    arms = {
        "logistic": [Logistic(l2, tau) for l2 in (0.003, 0.01, 0.03, 0.1, 0.3) for tau in (1.0, 1.25)],
        "lda": [Transfer(r, 0.0) for r in (0.1, 0.3, 0.6, 0.8, 0.95)],
        "transfer": [
            Transfer(r, k) for r in (0.1, 0.3, 0.6, 0.8, 0.95) for k in (0.0, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
        ],
    }[head]
    features, labels = plain(split())
    rows = held_out.compared_rows(features, labels, 4, len(arms), "balanced", 0)
    weight = (1 / torch.bincount(rows.labels_H).double())[rows.labels_H] / 4
    worth, inverse = {}, {}
    for arm, scores in rows.scores(arms, 4).items():
        # A grid of temperatures in place of Newton's steps. The one given back is of labels that are spread a little.
        spread = 1 / (len(scores) + 2)
        label = torch.nn.functional.one_hot(rows.labels_H, 4).double()
        tried = {float(b): (scores.double() * b).log_softmax(dim=1) for b in torch.logspace(-3, 2, 400)}
        worth[candidates.name(arm)] = max(float((weight @ (label * log)).sum()) for log in tried.values())
        target = label * (1 - spread) + spread / 4
        inverse[candidates.name(arm)] = max(tried, key=lambda b: float((weight @ (target * tried[b])).sum()))
    assert worth[name] == pytest.approx(max(worth.values()), abs=1e-4)
    (chosen,) = (arm for arm in arms if candidates.name(arm) == name)
    weight_CD, bias_C = candidates.fit(chosen, features, labels, 4)
    torch.testing.assert_close(fitted.weight_RCD[0], weight_CD * inverse[name], rtol=0.03, atol=1e-6)
    torch.testing.assert_close(fitted.bias_RC[0], bias_C * inverse[name], rtol=0.03, atol=1e-6)
    given = Retrain(head=head, l2=0.2, tau=0.5, shrinkage=0.7, transfer=4.0)
    fitted = kind(head)(problem(given))
    assert fitted.selection is None
    wanted = {"logistic": Logistic(0.2, 0.5), "lda": Transfer(0.7, 0.0), "transfer": Transfer(0.7, 4.0)}[head]
    weight, bias = candidates.fit(wanted, features, labels, 4)
    assert torch.equal(fitted.weight_RCD[0], weight)
    assert torch.equal(fitted.bias_RC[0], bias)


def test_the_prior_s_power_is_divided_by_the_temperature_too():
    fitted = kind("logistic")(problem(Retrain(head="logistic", tau=0.25)))
    (name,) = fitted.selection.members
    arm = next(a for l2 in (0.003, 0.01, 0.03, 0.1, 0.3) if candidates.name(a := Logistic(l2, 0.25)) == name)
    weight, _ = candidates.fit(arm, *plain(split()), 4)
    temperature = float(weight.norm() / fitted.weight_RCD.norm())
    assert abs(temperature - 1) > 0.05
    assert fitted.prior_power == pytest.approx(0.75 / temperature, rel=1e-4)


def test_of_rows_that_the_backbone_was_trained_on_only_a_val_split_chooses():
    fitted = kind("transfer")(problem(Retrain(head="transfer"), unseen=False))
    assert fitted.selection is None
    weight, _ = fit_discriminant(*plain(split()), 4, Transfer(0.6, 3.0))
    assert torch.equal(fitted.weight_RCD[0], weight)
    fitted = kind("transfer")(problem(Retrain(head="transfer"), unseen=False, val=split(seed=2)))
    assert fitted.selection.on == "val"


def test_whoever_meets_the_training_prior_again_is_adjusted_less():
    fitted = kind("logistic")(problem(Retrain(head="logistic"), metric="accuracy"))
    (name,) = fitted.selection.members
    assert float(name.partition("tau=")[2]) < 1


def test_where_no_row_can_be_held_out_the_usual_strengths_are_taken():
    single = split(torch.tensor([1, 1, 1]))
    fitted = kind("transfer")(problem(Retrain(head="transfer"), single))
    assert fitted.selection.on == "nothing: no class has two rows"
    assert fitted.selection.score is None
    weight, _ = fit_discriminant(*plain(single), 3, Transfer(0.6, 3.0))
    assert torch.equal(fitted.weight_RCD[0], weight)


@pytest.mark.parametrize("rows", ["train", "val"])
def test_vector_scaling_acts_on_the_stage_1_classifier(rows):
    """Of MARC's a_c z_c + b_c |w_c|, the a and b of least balanced cross entropy: nudging any of them makes it no smaller."""
    weight, bias = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)), torch.tensor([2.0, 1.0, -1.0, -2.0])
    val = split(torch.tensor([20, 20, 20, 20]), seed=2) if rows == "val" else None
    fitted = kind("scaling")(problem(Retrain(head="scaling"), stage1=(weight, bias), unseen=False, val=val))
    features, labels = plain(val or split())
    size = weight.norm(dim=1)
    scale = (fitted.weight_RCD[0] / weight).mean(dim=1)
    torch.testing.assert_close(fitted.weight_RCD[0], scale[:, None] * weight, rtol=1e-4, atol=1e-5)
    shift = (fitted.bias_RC[0] - scale * bias) / size
    logits = features @ weight.T + bias
    weights = (1 / torch.bincount(labels).double())[labels] / 4

    def loss(a, b):
        log = (a * logits + b * size).double().log_softmax(dim=1)[torch.arange(len(labels)), labels]
        drawn = (a - 1).square().sum() + (b * size.mean() / logits.std()).square().sum()
        return -float((weights * log).sum()) + 0.01 * float(drawn) / 4

    least = loss(scale, shift)
    assert least < loss(torch.ones(4), torch.zeros(4))
    for c in range(4):
        nudge = 0.02 * torch.nn.functional.one_hot(torch.tensor(c), 4)
        assert least <= min(loss(scale + nudge, shift), loss(scale - nudge, shift)) + 1e-5
        assert least <= min(loss(scale, shift + nudge), loss(scale, shift - nudge)) + 1e-5


def test_vector_scaling_of_imported_features_acts_on_logistic_regression_and_on_rows_it_has_not_seen():
    fitted = kind("scaling")(problem(Retrain(head="scaling")))
    features, labels = plain(split())
    weight, _ = candidates.fit(Logistic(tau=0.0, shrinkage=None), features, labels, 4)
    ratio = fitted.weight_RCD[0] / weight
    torch.testing.assert_close(ratio, ratio.mean(dim=1, keepdim=True).expand_as(ratio), rtol=1e-3, atol=1e-3)
    new = split(torch.tensor([50, 50, 50, 50]), seed=5)
    logits = fitted.logits(new.features_VND[0])[0]
    natural = new.features_VND[0] @ weight.T
    rare = new.labels_N == 3
    assert float((logits.argmax(dim=1) == 3)[rare].float().mean()) > float(
        (natural.argmax(dim=1) == 3)[rare].float().mean()
    )


@pytest.mark.parametrize("head", ["logistic", "lda", "transfer", "auto"])
def test_a_class_without_rows_changes_nothing_for_the_others_and_is_never_predicted(head):
    """Also where `val` has rows of it: no arm can be right on them."""
    counts, val_counts = torch.tensor([30, 0, 8]), torch.tensor([9, 9, 9])
    train, val = split(counts), split(val_counts, seed=2)
    fitted = kind(head)(problem(Retrain(head=head), train, val=val))
    others = torch.tensor([0, 2])
    alone = Features(train.features_VND, train.labels_N // 2, counts[others])
    kept = val.labels_N != 1
    val_alone = Features(val.features_VND[:, kept], val.labels_N[kept] // 2, val_counts[others])
    wanted = kind(head)(problem(Retrain(head=head), alone, val=val_alone))
    torch.testing.assert_close(fitted.weight_RCD[:, others], wanted.weight_RCD)
    torch.testing.assert_close(fitted.bias_RC[:, others], wanted.bias_RC)
    assert float(fitted.bias_RC[0, 1]) == -torch.inf
    assert bool((fitted.weight_RCD[0, 1] == 0).all())
    assert fitted.selection == wanted.selection
