"""A split that is larger than the RAM it may take is memory-mapped, and everything learnt from it is the same bits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import write_cache

from cache import CacheCorrupt, catalog
from cache import mapped as local
from cache.prune import prune
from cache.remove import rm
from pipeline import features, retrain
from pipeline.features import Features
from pipeline.settings.load import load
from pipeline.stage2_stg import train_stg

TINY = 1e-9
"""GiB; less than any split takes."""
FAST = ["stg.epochs=2", "stg.batch_size=64", "retrain.epochs=1", "retrain.batch_size=32", "stg.head_classes=2"]


@pytest.fixture
def small_blocks(monkeypatch, stores):
    """Blocks of some rows, copied and read, so that a toy split has many of them."""
    monkeypatch.setattr(features, "BLOCK_VALUES", 700)
    monkeypatch.setattr(local, "BLOCK_BYTES", 2000)
    monkeypatch.setenv("COATTAIL_STORES", str(stores))


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["stg.full_statistics=true", "stg.similarity=logit"],
        ["stg.smoothing=sample", "retrain.seeds=2"],
        ["retrain.augmentation=closed-form", "stg.similarity=cosine"],
        ["retrain.augmentation=none", "retrain.views=false"],
        ["retrain.head=ncm"],
        ["retrain.head=logit-adjustment"],
    ],
)
def test_a_mapped_split_gives_the_same_bits(stores, tmp_path, small_blocks, settings):
    cache = write_cache(stores)
    found = []
    for limit in (1.0, TINY):
        resolved = load(overrides=[*FAST, *settings, f"ram_limit={limit}"]).settings
        _, stg = train_stg(resolved, cache, tmp_path / f"{limit}")
        folder, classifier = retrain(resolved, cache, tmp_path / f"{limit}")
        found.append((folder.name, stg.model_dump(exclude={"seconds"}), classifier.model_dump(exclude={"seconds"})))
        assert (stores / ".local").is_dir() == (limit == TINY)
    assert found[0] == found[1]


def test_what_is_mapped_is_the_cache_and_is_copied_once(stores, small_blocks):
    cache = write_cache(stores)
    names = cache.views("train")
    wanted = np.stack([cache.features("train", name) for name in names])
    np.testing.assert_array_equal(features.load(cache, ram_limit=1.0).features_VND, wanted)
    np.testing.assert_array_equal(features.load(cache, ram_limit=TINY).features_VND, wanted)
    (copy,) = (stores / ".local" / cache.key).iterdir()
    before = copy.stat().st_mtime_ns
    np.testing.assert_array_equal(features.load(cache, views=False, ram_limit=TINY).features_VND, wanted[:1])
    assert [file.name for file in copy.parent.iterdir()] == [f"train-{len(names)}-views.npy"]
    assert copy.stat().st_mtime_ns == before
    np.testing.assert_array_equal(np.load(copy, allow_pickle=False), wanted)


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"x", lambda _: b""])
def test_a_copy_of_another_size_is_made_again(stores, small_blocks, damage):
    cache = write_cache(stores)
    wanted = features.load(cache, views=False, ram_limit=TINY).features_VND.clone()
    (copy,) = (stores / ".local" / cache.key).iterdir()
    copy.write_bytes(damage(copy.read_bytes()))
    assert torch.equal(features.load(cache, views=False, ram_limit=TINY).features_VND, wanted)


def test_a_damaged_cache_leaves_no_copy(stores, small_blocks):
    cache = write_cache(stores)
    file = cache.path / "features.zarr/train/view-01/c/0/0"
    file.write_bytes(b"x" + file.read_bytes()[1:])
    with pytest.raises(CacheCorrupt, match="its checksum is not that of its bytes"):
        features.load(cache, ram_limit=TINY)
    assert list((stores / ".local" / cache.key).iterdir()) == []


def test_copies_are_listed_and_go_with_their_cache(stores, small_blocks):
    cache = write_cache(stores)
    path, key = cache.path, cache.key
    features.load(cache, ram_limit=TINY)
    size = sum(file.stat().st_size for file in (stores / ".local" / key).iterdir())
    published, copy = catalog.ls(stores)
    assert (copy.state, copy.key, copy.bytes) == ("local", key, size)
    later = copy.modified + 100_000
    assert prune(stores, now=later) == []
    del cache
    path.rename(stores.parent / "elsewhere")
    assert [(one.path, one.reason) for one in prune(stores, now=later)] == [
        (copy.path, "local copy of a cache that is not here")
    ]
    (stores.parent / "elsewhere").rename(path)
    assert rm(path).bytes == published.bytes + size
    assert catalog.ls(stores) == []


def test_a_selection_is_not_a_copy():
    whole = Features(torch.randn(3, 9, 4).half(), torch.arange(9) % 3, torch.tensor([3, 3, 3]))
    part = whole.select(torch.tensor([1, 4, 5, 8])).select(torch.tensor([0, 2, 3]))
    assert part.features_VND is whole.features_VND
    assert part.labels_N.tolist() == [1, 2, 2]
    assert part.counts_C.tolist() == [0, 1, 2]
    views, rows = torch.tensor([[2, 0], [1, 1]]), torch.tensor([[0, 1], [2, 2]])
    wanted = whole.features_VND[views, torch.tensor([[1, 5], [8, 8]])].float()
    assert torch.equal(part.gather(views, rows), wanted)


def test_the_stage_1_classifier_gives_its_logits_in_any_coordinates(cache):
    raw = features.load(cache, views=False)
    standard = raw.standardised()
    logits = []
    for train in (raw, standard):
        weight_CD, bias_C = features.stage1_classifier(cache, train.coordinates)
        logits.append(train.gather(0, torch.arange(len(train.labels_N))) @ weight_CD.T + bias_C)
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("has_classifier", "kind"), [(True, "standard"), (False, "supported")])
def test_columns_of_a_few_rows_count_less_where_there_is_no_stage_1_classifier(
    cache, monkeypatch, has_classifier, kind
):
    stored = features.load(cache, views=False)
    sparse_VND = stored.features_VND.clone()
    sparse_VND[..., 0] = 0
    sparse_VND[:, 0, 0] = 1
    monkeypatch.setattr(features, "load", lambda *_args, **_more: replace(stored, features_VND=sparse_VND))
    if not has_classifier:
        monkeypatch.setattr(type(cache), "classifier", lambda _: None)
    assert features.coordinates_of(cache, load().settings) == kind
    assert features.coordinates_of(cache, load(overrides=["coordinates=raw"]).settings) == "raw"
    rows = features.training_rows(cache, load().settings, views=False)
    spread = float(rows.gather(0, torch.arange(len(rows.labels_N)))[:, 0].std(correction=0))
    assert spread == pytest.approx(1) if has_classifier else 0 < spread < 0.1
