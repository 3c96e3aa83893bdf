"""The cache that ships with coattail, real CIFAR-100-LT features: sound, small, and the figures make sense on it."""

import numpy as np
import pytest

from cache import FeatureCache
from cache.verify import verify
from pipeline import retrain
from pipeline.commands.which_cache import SAMPLES, available, sample_path, settings_and_cache
from pipeline.longtail import class_counts
from pipeline.stage2_stg import train_stg


@pytest.fixture(scope="module")
def sample() -> FeatureCache:
    return FeatureCache.open(sample_path("cifar100-lt"))


@pytest.fixture(scope="module")
def result_of(tmp_path_factory):
    """What a stage-3 run on the sample reports, with the settings it was made with and these."""
    runs = tmp_path_factory.mktemp("runs")

    def call(*overrides):
        settings, cache = settings_and_cache(None, overrides, None, str(sample_path("cifar100-lt")), runs)
        return retrain(settings, cache, runs)[1]

    return call


def test_it_is_sound_and_small(sample):
    assert verify(sample.path).findings == ()
    assert available() == ["cifar100-lt"]
    assert sum(file.stat().st_size for file in SAMPLES.rglob("*") if file.is_file()) < 8_000_000


def test_it_is_cifar_100_lt_of_imbalance_100(sample):
    assert sample.counts().tolist() == class_counts(500, 100, 100)
    assert sample.counts("test").tolist() == [100] * 100
    assert (sample.classes[0], sample.manifest.identity.backbone) == ("apple", "resnet32")


def test_the_stage_1_classifier_ignores_the_tail(sample, result_of):
    classifier = sample.classifier()
    logits_NC = sample.features("test").astype(np.float32) @ classifier["weight"].T + classifier["bias"]
    found = result_of("retrain.head=stage1")
    assert found.accuracy == pytest.approx(100 * (logits_NC.argmax(axis=1) == sample.labels("test")).mean(), abs=0.02)
    assert found.many > found.medium + 20 > found.few + 40


def test_retraining_lifts_the_tail_and_strength_0_is_plain_retraining(result_of):
    start = result_of("retrain.head=stage1")
    plain = result_of("retrain.augmentation=none")
    assert plain.accuracy > start.accuracy
    assert plain.few > start.few + 5
    for augmentation in ("stg", "closed-form"):
        zero = result_of(f"retrain.augmentation={augmentation}", "retrain.strength=0")
        assert zero.digest == plain.digest
        assert result_of(f"retrain.augmentation={augmentation}").digest != plain.digest


def test_the_generator_follows_the_closed_form_on_real_features(sample, tmp_path):
    settings, cache = settings_and_cache(None, (), None, str(sample.path), tmp_path)
    _, found = train_stg(settings, cache, tmp_path)
    assert len(found.head_classes) == 35
    assert found.held_out.mean_cosine > 0.85
    assert found.held_out.mean_relative_error < 0.3


def test_the_demo_of_the_sample_needs_no_image(coattail):
    done = coattail("demo", "--no-report", "--sample", "cifar100-lt", "--set", "retrain.seeds=1", "--json")
    assert done.code == 0, done.err
    assert len(done.json["arms"]) == 15
    assert done.json["groups"] == {"many": 35, "medium": 35, "few": 30}
