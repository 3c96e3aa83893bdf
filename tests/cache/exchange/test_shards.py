"""Embeddings in numbered files, as tools that embed many images write them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cache import CacheInvalid
from cache.exchange.contents import read_dataset
from cache.exchange.importing import digest
from cache.exchange.request import Request

FEATURES = np.arange(12 * 3, dtype=np.float32).reshape(36 // 3, 3)
IDS = np.array(["photo" * number + "." for number in range(12)])
LABELS = np.arange(12) % 3


def request(folder: Path) -> Request:
    return Request((("", folder),))


def refused(folder: Path) -> str:
    with pytest.raises(CacheInvalid) as caught:
        read_dataset(request(folder))
    return str(caught.value)


def shards(folder: Path, width: str = "") -> Path:
    """Twelve rows, one a shard, so that shard 10 stands before shard 2 where names are ordered as text."""
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    for number in range(12):
        np.save(folder / f"img_emb/img_emb_{number:{width}}.npy", FEATURES[number : number + 1])
        frame = pl.DataFrame({"image_path": [f"{number}.jpg"], "label": LABELS[number : number + 1]})
        frame = frame.with_columns(sample_id=pl.lit("photo" * number + "."))
        frame.write_parquet(folder / f"metadata/metadata_{number:{width}}.parquet")
    return folder


@pytest.mark.parametrize("width", ["", "05"])
def test_shards_are_joined_in_the_order_of_their_numbers(tmp_path, width):
    np.savez(tmp_path / "whole.npz", features=FEATURES, labels=LABELS, ids=IDS)
    whole = digest(read_dataset(request(tmp_path / "whole.npz"))).identity
    dataset = read_dataset(request(shards(tmp_path / "own", width)))
    assert digest(dataset).identity == whole
    first = f"{0:{width}}"
    assert dataset.notes == (
        f"train: features {tmp_path}/own/img_emb/img_emb_{first}.npy and 11 more shards (12, 3), "
        f"labels {tmp_path}/own/metadata/metadata_{first}.parquet[label] and 11 more shards, "
        f"ids {tmp_path}/own/metadata/metadata_{first}.parquet[sample_id] and 11 more shards",
        "not used: image_path (12,) str; give --column SPLIT/ROLE=NAME for one that belongs to a split",
    )


def test_a_missing_shard_is_named(tmp_path):
    folder = shards(tmp_path)
    (folder / "img_emb/img_emb_7.npy").unlink()
    assert refused(folder) == (
        f"{folder}/img_emb/img_emb_0.npy is one of 11 shards: found no shard 7; copy it beside the others"
    )
    np.save(folder / "img_emb/img_emb_07.npy", FEATURES[:1])
    np.save(folder / "img_emb/img_emb_007.npy", FEATURES[:1])
    assert refused(folder) == (
        f"{folder}/img_emb/img_emb_0.npy is one of 13 shards: found two shards 7; name them apart"
    )
    (folder / "img_emb/img_emb_007.npy").unlink()
    (folder / "img_emb/img_emb_07.npy").unlink()
    np.save(folder / "img_emb/img_emb_7.npy", FEATURES[:1, :2])
    assert refused(folder) == (
        f"{folder}/img_emb/img_emb_7.npy: (1, 2) float32, wanted rows as in {folder}/img_emb/img_emb_0.npy, (1, 3) float32"
    )


def test_shards_that_say_how_many_they_are(tmp_path):
    for number in range(2):
        frame = pl.DataFrame({"x": FEATURES[number * 6 : number * 6 + 6].tolist(), "label": LABELS[:6]})
        frame.write_parquet(tmp_path / f"train-0000{number}-of-00003.parquet")
    assert refused(tmp_path) == (
        f"{tmp_path}/train-00000-of-00003.parquet[x] is one of 2 shards: found no shard 2; copy it beside the others"
    )
    frame.write_parquet(tmp_path / "train-00002-of-00003.parquet")
    assert len(read_dataset(request(tmp_path)).splits["train"].labels_N) == 18


def test_views_and_layers_are_no_shards(tmp_path):
    for name in ("features", "view-01", "view-02"):
        np.save(tmp_path / f"{name}.npy", FEATURES)
    np.save(tmp_path / "labels.npy", LABELS)
    np.save(tmp_path / "layer_3.npy", FEATURES[:, :2])
    assert sorted(read_dataset(request(tmp_path)).splits["train"].views) == ["clean", "view-01", "view-02"]


def test_parquet_that_holds_images_or_their_paths(tmp_path):
    pl.DataFrame({"path": ["a.jpg", "b.jpg"], "label": [0, 1]}).write_parquet(tmp_path / "a.parquet")
    assert refused(tmp_path / "a.parquet") == (
        "split train: no features among path (2,) str, label (2,) int64 "
        f"({tmp_path}/a.parquet['path']: images or paths, not features; see `coattail extract`); "
        "name them features, embeddings or x, or say --column features=NAME"
    )
    pl.DataFrame({"image": [{"bytes": b"x", "path": None}], "label": [0]}).write_parquet(tmp_path / "b.parquet")
    assert f"({tmp_path}/b.parquet['image']: images or paths" in refused(tmp_path / "b.parquet")
