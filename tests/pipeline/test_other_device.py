"""Stages 2 and 3 on another device: the bits of the CPU, as all is drawn there, and features that are moved once a training."""

import re
from pathlib import Path

import pytest
import torch
import toy_caches as toys
from conftest import Blobs, write_cache
from in_process import run
from other_device import MOVED, NAME, stand_in
from small_runs import small

from cache import CacheWriter, FeatureCache, Provenance
from pipeline import make_features, retrain
from pipeline.artefacts import tensors
from pipeline.artefacts.folders import read_result
from pipeline.augment import transfer
from pipeline.classifiers import train_classifier
from pipeline.errors import ConfigError
from pipeline.evaluate import measure
from pipeline.plan import plan_retrain
from pipeline.settings.load import load, recorded_settings
from pipeline.settings.register import AUGMENTATIONS, HEADS
from pipeline.settings.stage3 import VALIDATES
from pipeline.stage2_stg import stg_folder, train_stg
from pipeline.stage3_record import RetrainResult
from pipeline.stage3_retrain import made_by, planned, split_figures
from pipeline.sweeping.work import CROSS_VALIDATION, Task, perform

SMALL = (
    "stg.epochs=2", "stg.batch_size=64", "retrain.steps=8", "retrain.batch_size=32", "retrain.hidden=8", "retrain.seeds=2",
    "stg.head_classes=2", "retrain.augmentation=none",
)  # fmt: skip
BLOBS = Blobs(counts=(60, 40, 20, 8), views=2)
SEEN = {"stage1": {"epochs": 200, "loss": "ce", "reweight": "none"}}
"""Recorded settings of a backbone that was trained on the rows."""


def settings_of(*more, device="cpu"):
    return load(overrides=(f"device={device}",), chosen=more, preset=SMALL).settings


def both(work, root, *more):
    """What the work gives on the CPU and on the stand-in, each with a folder of its own."""
    here = work(settings_of(*more), root / "here")
    with stand_in():
        there = work(settings_of(*more, device=NAME), root / "there")
    assert MOVED
    return here, there


def retrained(cache, root, *more):
    """Assert that a run of stage 3 on the stand-in gives the bits of one on the CPU."""
    (_, here), (_, there) = both(lambda settings, folder: retrain(settings, cache, folder), root, *more)
    assert (there.digest, there.predictions) == (here.digest, here.predictions)
    assert there.each_seed == here.each_seed
    assert (here.settings.get("device"), there.settings["device"]) == (None, "meta")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A cache of a backbone that never saw the rows."""
    return write_cache(tmp_path_factory.mktemp("stores"), BLOBS, test_views=2)


def test_the_stand_in_is_strict():
    with stand_in(), torch.device(NAME):
        there = torch.tensor([3.0, 1.0, 2.0])
        assert (there + 1).cpu().equal(torch.tensor([4.0, 2.0, 3.0], device="cpu"))
        for wrong, reason in (
            (lambda: there + torch.ones(3, device="cpu"), "wanted tensors of one device"),
            (lambda: there[torch.ones(3, device="cpu").long()], "wanted tensors of one device"),
            (lambda: torch.ones(3, device="cpu").index_add_(0, torch.arange(3), there), "wanted tensors of one device"),
            (lambda: torch.rand(3), "aten.rand.default: draws on"),
            (lambda: there.uniform_(), "aten.uniform_.default: draws on"),
            (lambda: there.numpy(), "numpy"),
        ):
            with pytest.raises(RuntimeError, match=reason):
                wrong()


@pytest.mark.parametrize("head", HEADS)
def test_a_head(plain, tmp_path, head):
    retrained(plain, tmp_path, f"retrain.head={head}")


@pytest.mark.parametrize("head", VALIDATES)
def test_a_head_that_reads_the_val_split(tmp_path, head):
    retrained(write_cache(tmp_path, BLOBS, val=True), tmp_path, f"retrain.head={head}")


@pytest.mark.parametrize("fitted", [0.0, 1.1])
def test_the_rule_of_auto_for_rows_that_the_backbone_has_seen(tmp_path, monkeypatch, fitted):
    monkeypatch.setattr("pipeline.classifiers.fixed_rule.FITTED", fitted)
    retrained(write_cache(tmp_path, BLOBS, SEEN), tmp_path, "retrain.head=auto")


@pytest.mark.parametrize("augmentation", [name for name, row in AUGMENTATIONS.items() if not row.reads_maps])
def test_an_augmentation(plain, tmp_path, augmentation):
    retrained(plain, tmp_path, f"retrain.augmentation={augmentation}")


def test_an_augmentation_of_maps(tmp_path):
    identity = toys.identity(maps=(2, 2), classes=("cat", "dog", "owl"))
    with CacheWriter(tmp_path, identity, Provenance(name="toy"), rows_per_chunk=8) as writer:
        toys.fill(writer)
        cache = FeatureCache.open(writer.publish())
    retrained(cache, tmp_path, "retrain.augmentation=feature-aug", "stg.head_classes=1")


@pytest.mark.parametrize(
    "more",
    [
        ["retrain.optimizer=sgd", "retrain.weight_decay=0.01", "retrain.schedule=cosine"],
        ["retrain.augmentation=tailcalibx", "retrain.covariance=full"],
        ["retrain.head=isda", "retrain.covariance=full"],
        ["retrain.augmentation=closed-form", "stg.similarity=soft"],
        ["coordinates=raw", "retrain.start=fresh"],
        ["retrain.test_views=all", "evaluate.prior=0.4,0.3,0.2,0.1"],
        ["evaluate.prior=train"],
    ],
    ids=lambda more: more[-1].partition(".")[2] or more[0],
)
def test_a_setting(plain, tmp_path, more):
    retrained(plain, tmp_path, *more)


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["stg.epochs=0"],
        ["stg.smoothing=sample"],
        ["stg.smoothing=none", "stg.include_self=false"],
        ["stg.full_statistics=true", "stg.loss=kl", "stg.variance=softplus"],
        ["stg.similarity=cosine", "stg.views=false"],
        ["stg.similarity=soft"],
    ],
    ids=lambda more: more[0] if more else "default",
)
def test_a_generator(tmp_path, monkeypatch, more):
    for name, steps in (("episodes.CEILING", 50), ("fit.FLOOR", 20), ("fit.CEILING", 40)):
        monkeypatch.setattr(f"pipeline.stg.{name}", steps)
    counts = (60, 50, 40, 30, 30, 8, 5)
    cache = write_cache(tmp_path, Blobs(counts=counts, views=2))
    more = ("stg.head_classes=5", *more)
    (_, here), (_, there) = both(lambda settings, folder: train_stg(settings, cache, folder), tmp_path, *more)
    assert there.digest == here.digest
    assert (there.steps, there.loss, there.held_out) == (here.steps, here.loss, here.held_out)
    assert there.settings == here.settings | {"device": "meta"}
    retrained(cache, tmp_path, *more, "retrain.augmentation=stg")


def test_a_generator_that_runs_in_each_step(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "TABLE_LIMIT", 0)
    retrained(plain, tmp_path, "retrain.augmentation=stg")


def test_wide_weights_whose_optimiser_is_one_kernel(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.classifiers.linear.FUSED", 10)
    retrained(plain, tmp_path)


def test_steps_that_held_out_rows_end(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.classifiers.budget.CEILING", 100)
    retrained(plain, tmp_path, "retrain.steps=0")


def test_settings_side_by_side_and_their_cross_validation(plain, tmp_path):
    def work(settings, root):
        rates = [settings.retrain.model_copy(update={"learning_rate": rate}) for rate in (0.001, 0.01)]
        variants = tuple(settings.model_copy(update={"retrain": one, "seed": seed}) for one in rates for seed in (0, 1))
        done = perform(Task(variants, str(plain.path), str(root), choose_on=CROSS_VALIDATION))
        assert [outcome.error for outcome in done] == [""] * 4
        results = [read_result(Path(outcome.folder), RetrainResult) for outcome in done]
        judged = [split_figures(planned(each, plain, root), CROSS_VALIDATION) for each in variants]
        return [
            (one.digest, one.predictions, one.each_seed, two.each_seed)
            for one, two in zip(results, judged, strict=True)
        ]

    here, there = both(work, tmp_path, "retrain.augmentation=noise")
    assert there == here


def test_features_move_once_and_random_numbers_a_step_at_a_time(plain):
    settings = settings_of("retrain.augmentation=noise", device=NAME)
    with stand_in():
        classifier = train_classifier(settings, plain, [0, 1], None)
        trained = list(MOVED)
        MOVED.clear()
        assert measure(plain, "test", classifier, settings).predicted_RN.device.type == "cpu"
    train, test = (plain.features(split).nbytes for split in ("train", "test"))
    a_step = 2 * 32 * plain.manifest.identity.width * 4
    assert trained.count(3 * train) == 1
    assert trained.count(a_step) == 8
    assert max(MOVED) == test
    assert MOVED.count(test) == 1


def test_what_is_saved_and_recorded_lies_on_the_cpu(plain, tmp_path):
    settings = settings_of("retrain.head=knn", device=NAME)
    with stand_in():
        assert {tensor.device.type for tensor in train_classifier(settings, plain, [0], None).tensors().values()} == {
            "cpu"
        }
        folder, _ = retrain(settings, plain, tmp_path)
    assert load(str(folder / "config.toml")).settings.device == NAME


def test_a_plan_times_the_device(plain, tmp_path):
    settings = settings_of("retrain.augmentation=stg", device=NAME)
    with stand_in():
        plan = plan_retrain(settings, plain, tmp_path, tmp_path)
    assert [(step.does, step.seconds > 0) for step in plan.steps] == [("run", True)] * 2
    assert len(MOVED) > 20


def test_runs_of_a_cpu_keep_their_keys_and_others_have_their_own(plain, tmp_path):
    here = planned(settings_of(), plain, tmp_path).folder
    assert here.name == "crt-4d0adf1152d0"
    with stand_in():
        assert planned(settings_of(device=NAME), plain, tmp_path).folder != here


def test_which_of_several_devices_of_a_kind_does_not_matter(plain, tmp_path, monkeypatch):
    """Under torchrun `cuda` is one of them; a run alone takes what was made there."""
    monkeypatch.setattr("pipeline.stage3_retrain.with_device", lambda settings: settings)
    monkeypatch.setattr("pipeline.stage2_stg.with_device", lambda settings: settings)
    settings = [settings_of(device=name) for name in ("cuda", "cuda:0", "cuda:1")]
    assert len({planned(each, plain, tmp_path).folder for each in settings}) == 1
    assert len({stg_folder(each, plain, tmp_path) for each in settings}) == 1
    assert [made_by(each)["device"] for each in settings] == ["cuda"] * 3


def test_a_cache_does_not_say_what_to_compute_on(tmp_path):
    cache = write_cache(tmp_path, settings={"device": "cuda:7"})
    assert load(base=recorded_settings(cache.manifest)).settings.device == "cpu"


@pytest.mark.parametrize(
    ("device", "line"),
    [
        ("meta", "device: 'meta' does not compute in float64, in which stages 2 and 3 sum over rows; set device=cpu"),
        ("cuda:99", r"device: 'cuda:99' cannot be used here \(.+\); try --set device=auto"),
    ],
)
@pytest.mark.parametrize("command", ["train-stg", "retrain", "run", "compare", "sweep"])
def test_a_device_that_cannot_be_used_is_refused_before_the_work(plain, tmp_path, monkeypatch, command, device, line):
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    (tmp_path / "s.toml").write_text("[retrain]\nlearning_rate = [0.1, 0.2]\n")
    file = [str(tmp_path / "s.toml")] if command == "sweep" else []
    done = run(monkeypatch, command, *file, "--cache", str(plain.path), "--set", f"device={device}")
    assert done.code == 2
    assert re.fullmatch(f"coattail: {line}\n", done.err)
    assert not (tmp_path / "runs").exists()


def test_a_device_that_is_not_there_is_refused_before_stage_1(tmp_path):
    settings = small().model_copy(update={"device": "warp"})
    with pytest.raises(
        ConfigError, match=r"device: 'warp' cannot be used here \(Expected one of cpu, cuda, .*; try --set device=auto"
    ):
        make_features(settings, tmp_path / "stores", tmp_path / "runs")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
@pytest.mark.parametrize("more", [["retrain.head=lda"], ["retrain.head=auto"], ["retrain.augmentation=stg"]])
def test_cuda(plain, tmp_path, more):
    (folder, here), (other, there) = (
        retrain(settings_of(*more, device=name), plain, tmp_path) for name in ("cpu", "cuda")
    )
    assert there.accuracy == pytest.approx(here.accuracy, abs=2)
    (on_cpu, _), (on_cuda, _) = (tensors.load(each / "classifier.safetensors") for each in (folder, other))
    torch.testing.assert_close(on_cuda, on_cpu, rtol=1e-2, atol=1e-2)
