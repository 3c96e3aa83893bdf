"""What `auto` is on features of a backbone that was trained on these rows: the mean of logistic regression and of three trained
classifiers, made as sure of themselves as it is."""

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline import retrain
from pipeline.artefacts import tensors
from pipeline.classifiers import candidates, fixed_rule
from pipeline.classifiers.linear import Classifier
from pipeline.classifiers.selection import stratified_folds
from pipeline.features import Features
from pipeline.settings.load import load
from pipeline.stage3_retrain import planned

SEEN = {"stage1": {"epochs": 5}}


def classifier_of(cache, root, *overrides):
    folder, result = retrain(load(overrides=overrides).settings, cache, root)
    return tensors.load(folder / "classifier.safetensors")[0], result


def test_it_is_the_mean_of_logistic_regression_and_of_three_seeds_of_the_head_that_it_names(stores, tmp_path):
    cache = write_cache(stores, Blobs(), SEEN)
    rule, result = classifier_of(cache, tmp_path, "retrain.head=auto", "seed=4")
    named = ["retrain.head=logit-adjusted", "retrain.augmentation=none", "retrain.seeds=3", "seed=4"]
    three, _ = classifier_of(cache, tmp_path, *named)
    mean = torch.cat([three["weight"], three["bias"][..., None]], dim=2).mean(dim=0)
    features, labels = (torch.from_numpy(array) for array in (cache.features("train"), cache.labels("train")))
    weight, bias = candidates.fit(fixed_rule.LOGISTIC, features.float(), labels, len(cache.classes))
    found = torch.cat([rule["weight"], rule["bias"][..., None]], dim=2)[0]
    trained = 2 * found - torch.cat([weight, bias[:, None]], dim=1)
    # Divided by one temperature.
    torch.testing.assert_close(trained / trained.norm(), mean / mean.norm(), rtol=1e-4, atol=1e-5)
    assert result.selection.on == "a fixed rule: the backbone was trained on these rows"
    assert result.selection.members == {"logit-adjusted loss": 0.5, "logistic l2=0.003 tau=1": 0.5}
    assert (result.chosen, result.seeds) == (True, [4])


def _reference_divergence(scores, wanted, temperature):
    """KL(p || q) row by row."""
    found = (scores / temperature).softmax(dim=1)
    return sum(float((p * (p / q).log()).sum()) for p, q in zip(wanted.double(), found.double(), strict=True))


def test_the_temperature_is_that_of_the_least_divergence():
    g = torch.Generator().manual_seed(0)
    scores = 4 * torch.randn(50, 5, generator=g)
    wanted = (scores / 2.5 + torch.randn(50, 5, generator=g)).softmax(dim=1)
    found = fixed_rule.likest_temperature(scores, wanted)
    tried = [found * factor for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2.0)]
    assert all(_reference_divergence(scores, wanted, found) < _reference_divergence(scores, wanted, t) for t in tried)
    assert fixed_rule.likest_temperature(3 * scores, scores.softmax(dim=1)) == pytest.approx(3, rel=0.01)


def test_it_is_as_sure_as_logistic_regression_whatever_its_own_scale():
    g = torch.Generator().manual_seed(1)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([60, 25, 9, 0]))
    features = 3 * torch.randn(4, 6, generator=g)[labels] + torch.randn(len(labels), 6, generator=g)
    train = Features(features[None], labels, torch.bincount(labels, minlength=4))
    weight, bias = candidates.fit(fixed_rule.LOGISTIC, features, labels, 4)
    for factor in (0.2, 1.0, 30.0):
        scaled = fixed_rule.completed(Classifier(factor * weight[None], factor * bias[None]), train)
        torch.testing.assert_close(scaled.weight_RCD[0], weight, rtol=0.01, atol=1e-3)
        assert scaled.bias_RC[0, 3] == -torch.inf


def _reference_cross_validation(features, labels, classes, penalties):
    """Mean log-likelihood, each class counting alike, of each penalty at its best of many temperatures, from five folds."""
    fold = stratified_folds(labels, classes, 5)
    found = {}
    for arm in penalties:
        scores = torch.zeros(len(labels), classes)
        for held in range(5):
            weight, bias = candidates.fit(arm, features[fold != held], labels[fold != held], classes)
            scores[fold == held] = features[fold == held] @ weight.T + bias
        for temperature in torch.linspace(0.2, 5, 200).tolist():
            true = (scores / temperature).log_softmax(dim=1)[torch.arange(len(labels)), labels]
            worth = sum(float(true[labels == c].mean()) for c in range(classes)) / classes
            found[arm] = max(found.get(arm, (-torch.inf, 0.0)), (worth, temperature))
    return found


def test_on_rows_that_the_backbone_has_not_fitted_the_penalty_is_chosen_by_cross_validation():
    g = torch.Generator().manual_seed(2)
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor([120, 60, 20]))
    features = 0.7 * torch.randn(3, 4, generator=g)[labels] + torch.randn(200, 4, generator=g)
    train = Features(features[None], labels, torch.bincount(labels, minlength=3))
    head = Classifier(torch.randn(1, 3, 4, generator=g), torch.zeros(1, 3))
    found = fixed_rule.completed(head, train)
    worth = _reference_cross_validation(features, labels, 3, fixed_rule.PENALTIES)
    best = max(worth, key=lambda arm: worth[arm])
    assert found.selection.members == {candidates.name(best): 1.0}
    assert (
        found.selection.on
        == "a fixed rule with one penalty by cross-validation: the backbone was trained on these rows"
    )
    weight, bias = candidates.fit(best, features, labels, 3)
    logistic = torch.cat([found.weight_RCD, found.bias_RC[..., None]], dim=2)[0]
    fitted = torch.cat([weight, bias[:, None]], dim=1)
    torch.testing.assert_close(logistic / logistic.norm(), fitted / fitted.norm(), rtol=1e-3, atol=1e-4)
    assert float(fitted.norm() / logistic.norm()) == pytest.approx(worth[best][1], rel=0.1)


def test_where_no_row_can_be_held_out_the_head_stays_alone():
    labels = torch.arange(3)
    train = Features(torch.eye(3)[None], labels, torch.ones(3, dtype=torch.int64))
    wrong = Classifier(-torch.eye(3)[None], torch.zeros(1, 3))
    assert fixed_rule.completed(wrong, train) is wrong


def test_settings_of_other_heads_and_raw_features_do_not_change_it(stores, tmp_path):
    cache = write_cache(stores, Blobs(), SEEN)
    plain, _ = classifier_of(cache, tmp_path / "a", "retrain.head=auto")
    path = tmp_path / "own.toml"
    path.write_text('coordinates = "raw"\n[retrain]\nhead = "auto"\nepochs = 1\nlearning_rate = 9.0\n')
    folder, _ = retrain(load(str(path)).settings, cache, tmp_path / "b")
    assert tensors.digest(tensors.load(folder / "classifier.safetensors")[0]) == tensors.digest(plain)


def test_classes_without_training_rows_are_never_predicted(stores, tmp_path):
    cache = write_cache(stores, Blobs(counts=(90, 30, 12, 0, 6)), SEEN)
    rule, result = classifier_of(cache, tmp_path, "retrain.head=auto")
    assert rule["bias"][0, 3] == -torch.inf
    assert result.per_class[3] in (0.0, None)
    assert rule["weight"].isfinite().all()


def test_runs_of_an_earlier_rule_have_another_key(stores, tmp_path):
    seen, unseen = write_cache(stores, Blobs(), SEEN), write_cache(stores, Blobs(seed=3))
    settings = load(overrides=["retrain.head=auto"]).settings
    assert planned(settings, seen, tmp_path).folder.name != "auto-74a71eb02065"
    assert planned(settings, unseen, tmp_path).folder.name != "auto-65c30ddd2017"
