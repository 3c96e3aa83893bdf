"""`cache import` and `cache export` as a user calls them, and stages 2 and 3 on what was imported."""

import numpy as np
import pytest
from conftest import Blobs
from sklearn.datasets import load_digits

from cache import CacheInvalid, FeatureCache
from cache.errors import CacheStorage
from pipeline import retrain, run_cache
from pipeline import stage1_import as imports
from pipeline.commands.cache_progress import export_shown
from pipeline.commands.which_cache import settings_and_cache
from pipeline.errors import ConfigError, DataError

FRESH = "no classifier given: trained heads start from a new one"
HELD_OUT = "no test split: 0.2 of each class of train is held out as test, seed 0; or give test=FILE"


@pytest.fixture
def digits(tmp_path):
    """scikit-learn's digits, the pixels as features."""
    features, labels = load_digits(return_X_y=True)
    np.savez(tmp_path / "digits.npz", X=features.astype(np.float32) / 16, y=labels)
    return tmp_path / "digits.npz"


def _one_line(done, code, text):
    assert (done.code, done.out, done.err) == (code, "", f"coattail: {text}\n")


def test_an_import_is_held_out_retrained_and_found_again(coattail, digits, tmp_path):
    done = coattail("cache", "import", "digits.npz", "--name", "digits", "--json")
    assert done.code == 0, done.err
    taken = "train: features digits.npz[X] (1797, 64), labels digits.npz[y]"
    assert done.err.splitlines() == [taken, HELD_OUT, FRESH]
    assert done.json["notes"] == [taken, HELD_OUT, FRESH]
    assert (done.json["rows"], done.json["existed"]) == ({"train": 1438, "test": 359}, False)
    cache = FeatureCache.open(tmp_path / done.json["path"])
    rows = [int(one) for split in cache.splits for one in cache.rows(split)["sample_id"]]
    assert sorted(rows) == list(range(1797))
    assert np.all(np.abs(cache.counts("test") - 0.2 * (cache.counts("train") + cache.counts("test"))) <= 0.5)

    again = coattail("cache", "import", "digits.npz")
    assert (again.code, again.err) == (0, f"{taken}\n")
    assert again.out.splitlines() == [
        f"done already: train 1438, test 359 rows, 64 features (float32), 10 classes: {done.json['path']}",
        f"next: coattail retrain --cache {cache.key[:12]}",
    ]
    renamed = coattail("cache", "import", "digits.npz", "--name", "other")
    assert (renamed.code, renamed.err) == (
        0,
        f"{taken}\n--name other is not used: the same rows are a cache already, called digits; "
        "results go on calling it that\n",
    )  # fmt: skip
    retrained = coattail("retrain", "--cache", cache.key[:12], "--augmentation", "none", "--json", "-q")
    assert retrained.code == 0, retrained.err
    assert retrained.json["dataset"] == "digits"
    assert retrained.json["accuracy"] > 94
    exported = coattail("cache", "export", cache.key[:8], "out", "--json")
    assert exported.json["rows"] == {"train": 1438, "test": 359}, exported.err
    _one_line(
        coattail("cache", "export", cache.key[:8], "out"), 1,
        "out: is there already and is not replaced; remove it, or export to another name",
    )  # fmt: skip


def _request(*sources, columns=(), classifier=None, labels=()):
    return imports.request([str(one) for one in sources], labels, [], None, classifier, columns)


def test_an_export_of_what_was_held_out_comes_back_as_the_same_cache(digits, tmp_path, stores):
    first = imports.import_features(_request(digits), stores, "digits", 0.2, 3)
    for name in ("out.npz", "out.safetensors", "out.parquet", "out"):
        export_shown(first.path, tmp_path / name, [], [])
        again = imports.import_features(_request(tmp_path / name), stores, "other", 0.5, 0)
        assert (again.path, again.existed, again.rows) == (first.path, True, first.rows)


def test_small_classes_and_a_classifier(tmp_path, stores):
    blobs = Blobs(counts=(40, 20, 10, 5))
    for split, counts, purpose in (("train", blobs.counts, 1), ("test", (8,) * 4, 2)):
        features, labels = blobs.split(counts, purpose)
        np.savez(tmp_path / f"{split}.npz", features=features, labels=labels)
    np.savez(tmp_path / "head.npz", **blobs.classifier())
    request = _request(f"train={tmp_path}/train.npz", f"test={tmp_path}/test.npz", classifier=tmp_path / "head.npz")
    done = imports.import_features(request, stores, "blobs", 0.2, 0)
    assert done.notes == (
        f"train: features {tmp_path}/train.npz[features] (75, 12), labels {tmp_path}/train.npz[labels]",
        f"test: features {tmp_path}/test.npz[features] (32, 12), labels {tmp_path}/test.npz[labels]",
        "train and test hold class numbers without names, in files of their own: that a number means the same class in "
        "each cannot be checked",
        "float64 features are stored as float32, rounded to nearest",
        "no class has more than 100 training rows: the largest 40 % of the classes are taken as head",
    )
    for head in ("crt", "tau-norm"):
        overrides = [f"retrain.head={head}", "stg.epochs=1"]
        found = retrain(*settings_and_cache(None, overrides, None, str(done.path), stores), tmp_path / "runs")[1]
        assert found.accuracy > 60


def test_all_arms_that_need_no_classifier(digits, tmp_path, stores, capsys):
    done = imports.import_features(_request(digits), stores, "digits", 0.2, 0)
    overrides = ["retrain.epochs=1", "stg.epochs=1"]
    found = run_cache(*settings_and_cache(None, overrides, None, str(done.path), stores), tmp_path / "runs")
    assert [arm.method for arm in found.arms] == [
        "auto", "ncm", "knn", "logistic", "lda", "transfer", "crt", "crt+dropout", "crt+noise", "crt+transfer",
        "crt+closed-form", "crt+stg",
    ]  # fmt: skip
    said = capsys.readouterr().err.splitlines()
    for name in ("classifier (stage 1)", "logit adjustment", "tau-normalisation"):
        assert f"{name}: left out: the cache holds no stage-1 classifier" in said


def test_settings_of_a_config_ask_for_a_classifier_and_the_remedy_works(digits, tmp_path, stores):
    done = imports.import_features(_request(digits), stores, "digits", 0.2, 0)
    overrides = ["retrain.augmentation=none", "retrain.epochs=1", "retrain.start=stage1"]
    with pytest.raises(DataError) as caught:
        retrain(*settings_and_cache("digits-lt", overrides, None, str(done.path), stores), tmp_path / "runs")
    wants = f"retrain.start=stage1: wants the stage-1 classifier, cache {done.path.name[:12]} holds none"
    assert str(caught.value) == f"{wants}; use --set retrain.start=fresh"
    overrides[-1] = "retrain.start=auto"
    retrain(*settings_and_cache("digits-lt", overrides, None, str(done.path), stores), tmp_path / "runs")


def test_what_is_not_there_is_one_line(coattail):
    _one_line(coattail("cache", "import", "missing.npz"), 1, "missing.npz: No such file or directory")


@pytest.mark.parametrize(
    ("columns", "name", "text"),
    [
        (["features"], "a", "--column features: wanted ROLE=NAME, such as features=embedding, or SPLIT/ROLE=NAME"),
        ([], "a/b", "--name a/b: wanted letters, digits, dots, dashes and underscores"),
    ],
)
def test_called_wrongly(digits, stores, columns, name, text):
    with pytest.raises(ConfigError) as caught:
        imports.import_features(_request(digits, columns=columns), stores, name, 0.2, 0)
    assert str(caught.value) == text


def test_labels_that_are_not_in_their_file(digits, stores):
    request = _request(digits, labels=[str(digits)], columns=["labels=z"])
    with pytest.raises(CacheInvalid) as caught:
        imports.import_features(request, stores, "a", 0.2, 0)
    assert str(caught.value) == (
        f"{digits}: no labels among X (1797, 64) float32, y (1797,) int64; say which with --column labels=NAME"
    )


def test_a_class_of_one_row_cannot_be_held_out(tmp_path, stores):
    np.savez(tmp_path / "a.npz", x=np.eye(5, dtype=np.float32), y=np.array(["cat", "owl", "cat", "cat", "cat"]))
    with pytest.raises(DataError) as caught:
        imports.import_features(_request(tmp_path / "a.npz"), stores, "a", 0.2, 0)
    assert str(caught.value) == (
        "class 'owl' has 1 row, so none can be held out as test; give a test split with test=FILE"
    )


def test_a_disk_that_is_too_small_is_found_before_anything_is_written(tmp_path, stores, monkeypatch):
    np.savez(tmp_path / "a.npz", x=np.ones((8, 4), np.float32), y=np.arange(8) % 2)
    monkeypatch.setattr(imports.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    with pytest.raises(CacheStorage) as caught:
        imports.import_features(_request(tmp_path / "a.npz"), stores, "toy", 0.5, 0)
    assert str(caught.value) == (
        f"{stores}: wanted 0.0 GiB for the features, found 0.0 GiB free; "
        "free space or set COATTAIL_STORES to a larger disk"
    )
    assert not stores.exists()
