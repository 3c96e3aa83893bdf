"""What the register says that a head uses: another value of each such setting gives another classifier."""

from dataclasses import replace

import pytest
import torch
from conftest import Blobs, write_cache

from pipeline.classifiers import draws_at_random, train_classifier
from pipeline.settings import register
from pipeline.settings.load import load

SMALL = Blobs(counts=(24, 12, 6, 4), width=4)
OTHER = {
    "augmentation": "noise", "start": "fresh", "sampling": "instance", "views": "false", "epochs": "3", "steps": "4",
    "batch_size": "7", "optimizer": "sgd", "learning_rate": "0.01", "momentum": "0.5", "weight_decay": "0.1",
    "schedule": "cosine", "warmup_steps": "4", "tau": "0.3", "classifier_factor": "0.5", "smoothing_head": "0.1",
    "smoothing_tail": "0.3", "reweight_beta": "0.9", "focal_gamma": "3", "margin": "0.2", "cosine_scale": "5",
    "reweight_start": "0.1", "cloud": "0.1", "semantic_strength": "2", "covariance": "full", "meta_rate": "100",
    "reweight_power": "0.3", "max_norm": "0.9", "hidden": "7", "distance": "l2", "neighbours": "3", "l2": "0.5",
    "shrinkage": "0.2", "transfer": "9",
}  # fmt: skip
"""Of each setting of `retrain`, another value than the default."""
OF_SCORES = {"seeds", "test_views", "neighbours"}
"""Settings that change no parameter of a classifier, but how many there are or how rows are scored."""


def trained(cache, *texts):
    """The parameters of the classifier that the settings give in three steps."""
    asked = load(overrides=texts).settings
    return train_classifier(asked, cache, [asked.seed], None).tensors()


def are_equal(first, second):
    same = {name: tensor.shape for name, tensor in first.items()} == {name: t.shape for name, t in second.items()}
    return same and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """One whose backbone has not seen the training rows, one whose backbone has, and one with a `val` split."""
    stores = tmp_path_factory.mktemp("stores")
    seen = write_cache(stores, replace(SMALL, seed=1), {"stage1": {"epochs": 5}})
    return write_cache(stores, SMALL), seen, write_cache(stores, SMALL, val=True)


def base_of(head, *without):
    """Few steps of a small classifier, but for the settings that are left out."""
    own = [f"retrain.head={head}"]
    own += ["retrain.augmentation=none", "retrain.steps=6"] if register.HEADS[head].trained else []
    own += ["retrain.hidden=16"] if head == "oltr" else []
    return [text for text in own if text.partition("=")[0] not in without]


@pytest.mark.parametrize("head", register.HEADS)
def test_another_value_of_a_setting_that_a_head_uses_gives_another_classifier(caches, head):
    row = register.HEADS[head]
    names = {key.partition(".")[2] for key in row.uses if key.startswith("retrain.")} - OF_SCORES
    names -= {"sampling"} if row.prior_aware else set()
    plain, without_effect = trained(caches[0], *base_of(head)), []
    for name in sorted(names):
        base, before = base_of(head, f"retrain.{name}"), plain
        if name == "epochs":
            base = base_of(head, "retrain.steps")
            before = trained(caches[0], *base)
        elif name == "momentum":
            base += ["retrain.optimizer=sgd"]
            before = trained(caches[0], *base)
        if are_equal(before, trained(caches[0], *base, f"retrain.{name}={OTHER[name]}")):
            without_effect.append(name)
    assert without_effect == []


@pytest.mark.parametrize("head", [name for name, row in register.HEADS.items() if not row.trained])
def test_another_seed_changes_nothing_where_a_head_draws_nothing(caches, head):
    settings = load(overrides=base_of(head)).settings
    answers = [draws_at_random(settings, cache) for cache in caches]
    chooses = head in ("logistic", "lda", "transfer")
    assert answers == {"ridge": [True, True, True], "auto": [True, True, False]}.get(head, [chooses, False, False])
    for cache, answer in zip(caches, answers, strict=True):
        if not answer or not chooses:  # other folds may choose the same numbers
            first, second = (trained(cache, *base_of(head), f"seed={seed}") for seed in (0, 1))
            assert are_equal(first, second) is not answer


def test_scaling_draws_folds_where_the_cache_has_no_classifier(stores):
    settings = load(overrides=["retrain.head=scaling"]).settings
    assert draws_at_random(settings, write_cache(stores, SMALL, classifier=False))


def test_a_head_whose_numbers_are_given_draws_nothing(caches):
    texts = ([], ["retrain.shrinkage=0.5"], ["retrain.shrinkage=0.5", "retrain.transfer=1"])
    asked = [load(overrides=["retrain.head=transfer", *more]).settings for more in texts]
    assert [draws_at_random(settings, caches[0]) for settings in asked] == [True, True, False]
