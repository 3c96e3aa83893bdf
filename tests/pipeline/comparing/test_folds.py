"""Cross-validation: pooled figures against predictions counted by hand, which rows are tested, when it is taken by itself."""

import numpy as np
import pytest
import torch

import pipeline
from cache import FeatureCache
from pipeline.artefacts.folders import read_json
from pipeline.commands.which_cache import sample_path, settings_and_cache
from pipeline.compare import Comparison
from pipeline.comparing.folds import cache_folds, wants_folds
from pipeline.errors import ConfigError, DataError
from pipeline.images.dataset import load
from pipeline.longtail import shot_groups
from pipeline.metrics import evaluate, pooled
from pipeline.report.tables import comparison_text
from pipeline.settings import Settings
from pipeline.stage1_import import import_features, request
from tests.support.in_process import run
from tests.support.toy_images import write_folder

COUNTS = [24, 14, 9, 6, 4, 3, 2, 1]


@pytest.fixture
def cache(tmp_path):
    """Imported features of eight small classes; the last has one row, all of it for training."""
    labels_N = np.repeat(np.arange(8), COUNTS)
    draw = np.random.default_rng(0)
    features_ND = draw.normal(size=(8, 6))[labels_N] + 0.5 * draw.normal(size=(len(labels_N), 6))
    test_N = np.isin(np.arange(len(labels_N)), [0, 1, 25, 40])
    for split, rows in (("train", ~test_N), ("test", test_N)):
        np.savez(tmp_path / f"{split}.npz", features=features_ND[rows].astype(np.float32), labels=labels_N[rows])
    sources = [f"{split}={tmp_path}/{split}.npz" for split in ("train", "test")]
    done = import_features(request(sources, (), (), None, None, ()), tmp_path / "stores", "small", 0.2, 0)
    return FeatureCache.open(done.path)


def test_pooled_metrics_are_those_of_all_predictions_together():
    draw = torch.Generator().manual_seed(0)
    labels_N = torch.arange(60) % 5
    probabilities_NC = torch.rand(60, 5, generator=draw).softmax(dim=1)
    fold_N = torch.arange(60) // 5 % 3
    counts = [30, 20, 10, 5, 2]
    metrics, tested = [], []
    for fold in range(3):
        rows = fold_N == fold
        metrics.append(evaluate(probabilities_NC[rows], labels_N[rows], counts, 15, 6))
        tested.append(torch.bincount(labels_N[rows], minlength=5).tolist())
    whole = evaluate(probabilities_NC, labels_N, counts, 15, 6)
    together = pooled(metrics, tested, shot_groups(counts, 15, 6))
    for name in ("accuracy", "many", "medium", "few", "balanced_accuracy", "per_class"):
        assert getattr(together, name) == pytest.approx(getattr(whole, name))
    assert together.ece == pytest.approx(sum(20 * part.ece for part in metrics) / 60)


def test_a_class_that_no_fold_tests_has_no_figure():
    parts = [evaluate(torch.eye(3)[[0, 1]], torch.tensor([0, 1]), [5, 5, 1]) for _ in range(2)]
    together = pooled(parts, [[1, 1, 0], [1, 1, 0]], {"many": [0], "medium": [1], "few": [2]})
    assert (together.per_class, together.few, together.accuracy) == ([100.0, 100.0, None], None, 100.0)


def test_every_row_but_a_class_s_only_one_is_tested_once(cache):
    parts = cache_folds(cache, Settings(), 3)
    tested_ND = np.concatenate([part.features("test") for part in parts])
    assert len(tested_ND) == len(np.unique(tested_ND, axis=0)) == sum(COUNTS) - 1
    assert sum(part.counts("test") for part in parts).tolist() == [*COUNTS[:-1], 0]
    assert all((part.counts("train") > 0).all() for part in parts)


def test_a_run_in_folds_says_so_in_its_head_and_is_done_once(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("COATTAIL_STORES", str(cache.path.parent))
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    arguments = ["run", "--cache", str(cache.path), "--folds", "2", "--augmentation", "noise", "--json", "-q"]
    short = ["--set", "retrain.steps=20", "--set", "stg.epochs=1"]
    found = run(monkeypatch, *arguments, *short).json
    assert (found["folds"], found["tested"], found["cache"]) == (2, sum(COUNTS) - 1, cache.key)
    ncm = next(arm for arm in found["arms"] if arm["method"] == "ncm")
    right, rows = 0.0, 0
    for folder in (tmp_path / "runs" / "small").glob("ncm-*"):
        fold = read_json(folder / "metrics.json")
        tested = next(part.counts("test") for part in cache_folds(cache, Settings(), 2) if part.key == fold["cache"])
        right += sum(n * share / 100 for n, share in zip(tested, fold["per_class"], strict=True) if n)
        rows += tested.sum()
    assert (rows, ncm["accuracy"]) == (62, pytest.approx(100 * right / 62))
    made = sorted((tmp_path / "runs").rglob("metrics.json"))
    assert run(monkeypatch, *arguments, *short).json["arms"] == found["arms"]
    assert sorted((tmp_path / "runs").rglob("metrics.json")) == made
    again = run(monkeypatch, *[word for word in arguments if word not in ("--json", "-q")], *short)
    assert again.out.splitlines()[-1] == (
        f"next, for a classifier to use: coattail retrain --cache {cache.path} --head auto"
    )
    comparison = Comparison.model_validate(found)
    assert comparison_text(comparison)[0].title == (
        f"small, cache {cache.key[:12]}: top-1 % and ECE % by 2-fold cross-validation, 62 rows tested once each, last epoch"
    )


def test_folds_of_rows_that_the_backbone_saw_are_refused(tmp_path):
    _, seen = settings_and_cache(None, (), None, str(sample_path("cifar100-lt")), tmp_path)
    with pytest.raises(ConfigError, match=r"--folds 5: cache .*: its backbone was trained on the training rows"):
        cache_folds(seen, Settings(), 5)


def test_folds_of_images_that_stage_1_would_train_on_are_refused_before_it_does(monkeypatch, tmp_path):
    monkeypatch.setenv("COATTAIL_STORES", str(tmp_path / "stores"))
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    ended = run(monkeypatch, "run", "digits-lt", "--folds", "2", "--set", "stage1.epochs=3")
    assert ended.code == 2
    assert ended.err.splitlines()[-1].endswith(
        "--folds 2: stage 1 trains the backbone on the training images (stage1.epochs=3), so folds of them say nothing of new "
        "images; leave --folds out, or take a backbone as it is, such as --backbone efficientnet-lite0"
    )
    assert not list(tmp_path.iterdir())


def test_folds_have_no_views_of_test_rows(cache, tmp_path):
    with pytest.raises(ConfigError) as error:
        pipeline.run_folds(Settings.model_validate({"retrain": {"test_views": 3}}), cache, tmp_path, 2)
    assert str(error.value) == (
        "--folds 2: of the rows of folds the clean view alone is tested, found retrain.test_views=3; leave one of the two out"
    )


def test_more_folds_than_rows_are_refused(cache):
    with pytest.raises(
        DataError, match=r"--folds 90: .*wanted a row in each fold, found 62 rows in classes of more than one"
    ):
        cache_folds(cache, Settings(), 90)


@pytest.mark.parametrize(
    ("train", "test", "wanted"),
    [
        ([3, 3, 3], [1, 1, 1], True),
        ([30, 3, 3], [8, 1, 1], True),
        ([30, 30, 3], [8, 8, 1], False),
        ([30, 3], [8, 1], False),
        ([30, 1, 1, 1], [8, 0, 0, 0], False),
    ],
)
def test_folds_are_wanted_where_most_classes_have_fewer_than_two_test_rows(train, test, wanted):
    assert wants_folds(train, test) is wanted


def test_the_images_say_whether_their_test_split_is_held_out(tmp_path):
    photos = write_folder(tmp_path / "photos", {"cat": 4, "dog": 3})
    for test, held_out in (("", True), (photos, False)):
        data = {"source": "folder", "train": photos, "test": test, "image_size": 8, "workers": 0}
        assert load(Settings.model_validate({"data": data})).holds_out_test is held_out


def test_one_fold_is_none(monkeypatch, cache):
    ended = run(monkeypatch, "run", "--cache", str(cache.path), "--folds", "1")
    assert ended.code == 2
    assert "--folds 1: wanted at least 2 folds, or 0 for none" in ended.err
