"""Folds of a cache: each row of train and test is tested once, read as it lies in the cache; no file is written."""

import numpy as np
import pytest
import toy_caches as toys
from toy_caches import frame

from cache import CacheInvalid, FeatureCache
from cache.folded import PooledRows

FOLD_N = np.array([-1, *np.arange(69) % 3])
"""50 training rows, then 20 of test; the first is never tested."""


@pytest.fixture
def folds(cache_path):
    pooled = PooledRows(FeatureCache.open(cache_path))
    return [pooled.fold(FOLD_N, number) for number in range(3)]


def test_each_row_is_tested_once_and_trained_on_in_the_other_folds(cache_path, folds):
    cache = FeatureCache.open(cache_path)
    features_ND = np.concatenate([cache.features("train"), cache.features("test")])
    labels_N = np.concatenate([cache.labels("train"), cache.labels("test")])
    ids = [*frame("train", 50)["sample_id"], *frame("test", 20)["sample_id"]]
    for number, fold in enumerate(folds):
        for split, rows in (("train", np.flatnonzero(number != FOLD_N)), ("test", np.flatnonzero(number == FOLD_N))):
            assert (fold.features(split) == features_ND[rows]).all()
            assert fold.features(split).dtype == features_ND.dtype
            assert (fold.labels(split) == labels_N[rows]).all()
            assert fold.rows(split)["sample_id"].to_list() == [ids[row] for row in rows]
            assert fold.rows(split)["row"].to_list() == list(range(len(rows)))
            assert fold.counts(split).tolist() == np.bincount(labels_N[rows], minlength=3).tolist()
            assert fold.views(split) == ["clean"]
    assert sum(len(fold.labels("test")) for fold in folds) == 69


def test_a_part_of_a_fold_is_read_into_a_given_array(folds):
    out_BD = np.zeros((4, 8), np.float16)
    assert folds[1].slice("test", "clean", 3, 7, out_BD) is out_BD
    assert (out_BD == folds[1].features("test")[3:7]).all()
    with pytest.raises(CacheInvalid, match="no view 'view-01', found clean"):
        folds[1].features("train", "view-01")


def test_a_fold_has_no_feature_maps(tmp_path):
    pooled = PooledRows(FeatureCache.open(toys.make(tmp_path, toys.identity(maps=(2, 2)))))
    fold = pooled.fold(FOLD_N, 0)
    with pytest.raises(CacheInvalid) as error:
        fold.maps("test")
    assert str(error.value) == f"cache {fold.key[:12]}: a fold has clean features alone, wanted feature maps of test"


def test_folds_have_keys_of_their_own_and_write_nothing(cache_path, folds):
    before = sorted(cache_path.parent.rglob("*"))
    again = PooledRows(FeatureCache.open(cache_path)).fold(FOLD_N, 1)
    assert len({fold.key for fold in folds} | {cache_path.name}) == 4
    assert again.key == folds[1].key
    assert again.classifier() is None
    assert sorted(cache_path.parent.rglob("*")) == before


def test_a_fold_without_rows_is_refused(cache_path):
    pooled = PooledRows(FeatureCache.open(cache_path))
    with pytest.raises(CacheInvalid, match="fold 7: wanted rows of test, found none"):
        pooled.fold(FOLD_N, 7)
