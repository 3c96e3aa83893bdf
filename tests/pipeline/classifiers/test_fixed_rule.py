"""What `auto` is on features of a backbone that was trained on these rows: the mean of three trained classifiers."""

import torch
from conftest import Blobs, write_cache

from pipeline import retrain
from pipeline.artefacts import tensors
from pipeline.settings.load import load
from pipeline.stage3_retrain import planned

SEEN = {"stage1": {"epochs": 5}}


def classifier_of(cache, root, *overrides):
    folder, result = retrain(load(overrides=overrides).settings, cache, root)
    return tensors.load(folder / "classifier.safetensors")[0], result


def test_it_is_the_mean_of_three_seeds_of_the_head_that_it_names(stores, tmp_path):
    cache = write_cache(stores, Blobs(), SEEN)
    rule, result = classifier_of(cache, tmp_path, "retrain.head=auto", "seed=4")
    named = ["retrain.head=logit-adjusted", "retrain.augmentation=none", "retrain.seeds=3", "seed=4"]
    three, _ = classifier_of(cache, tmp_path, *named)
    torch.testing.assert_close(rule["weight"], three["weight"].mean(dim=0, keepdim=True))
    torch.testing.assert_close(rule["bias"], three["bias"].mean(dim=0, keepdim=True))
    assert result.selection.on == "a fixed rule: the backbone was trained on these rows"
    assert result.selection.members == {"logit-adjusted loss": 1.0}
    assert (result.chosen, result.seeds) == (True, [4])


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
    assert planned(settings, unseen, tmp_path).folder.name == "auto-65c30ddd2017"
