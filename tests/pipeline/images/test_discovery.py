"""A folder or table of images is a config: splits, source and columns are found as they lie."""

import shutil

import numpy as np
import polars as pl
import pytest

from pipeline.errors import DataError
from pipeline.images.dataset import load
from pipeline.images.discovery import found_in, settings_found
from pipeline.settings import Settings
from pipeline.settings.files import CONFIGS
from pipeline.settings.load import load as load_settings
from tests.support.toy_images import png, write_folder, write_parquet


def found(path):
    return {key: str(value).replace(str(path), "ROOT") for key, value in found_in(path).items()}


def test_class_folders_alone_and_below_splits(tmp_path):
    write_folder(tmp_path / "a", {"cat": 2, "dog": 1})
    assert found(tmp_path / "a") == {"source": "folder", "train": "ROOT"}
    for split in ("Train", "valid", "test"):
        write_folder(tmp_path / "b" / split, {"cat": 2, "dog": 1})
    wanted = {"source": "folder", "train": "ROOT/Train", "val": "ROOT/valid", "test": "ROOT/test"}
    assert found(tmp_path / "b") == wanted


def test_shards_of_parquet_by_split_in_a_folder_data(tmp_path):
    for part in range(2):
        write_parquet(tmp_path / "data" / f"train-0000{part}-of-00002.parquet", [0, 1, part], first=3 * part)
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [0, 1], first=10)
    values = found(tmp_path)
    assert values == {
        "source": "parquet", "image_column": "image", "label_column": "label",
        "train": "ROOT/data/train*.parquet", "test": "ROOT/data/test-00000-of-00001.parquet",
    }  # fmt: skip
    dataset = load(Settings.model_validate(settings_found(tmp_path)))
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 6, "test": 2}


def test_columns_of_other_names_in_parquet(tmp_path):
    frame = pl.DataFrame({"img": [png(0), png(1)], "fine_label": [0, 1]})
    frame.write_parquet(tmp_path / "train.parquet")
    values = found(tmp_path)
    assert (values["image_column"], values["label_column"]) == ("img", "fine_label")


@pytest.mark.parametrize("name", ["metadata.csv", "photos.csv"])
def test_a_table_beside_a_flat_folder(tmp_path, name):
    write_folder(tmp_path / "root", {"all": 4})
    rows = "".join(f"all/{row}.png,{'cat' if row else 'dog'}\n" for row in range(4))
    (tmp_path / "root" / name).write_text(f"file_name,kind\n{rows}")
    values = found(tmp_path / "root")
    assert values == {"source": "table", "train": "ROOT" if name == "metadata.csv" else f"ROOT/{name}"}


def test_single_files_name_their_source(tmp_path):
    for name, source in (("a.tar", "webdataset"), ("b.npz", "npz"), ("c.csv", "table"), ("d.txt", "list")):
        (tmp_path / name).write_bytes(b"")
        assert found(tmp_path / name)["source"] == source


def test_nothing_to_read_is_one_line(tmp_path):
    (tmp_path / "notes.md").write_text("none")
    with pytest.raises(DataError) as error:
        found_in(tmp_path)
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "ROOT: wanted folders of images a class, folders train and test of them, or a file of .parquet, .tar, .npz, .npy, "
        ".csv, .tsv, .txt, .tab, .jsonl, .ndjson, .json; found notes.md"
    )


def test_splits_of_two_kinds_are_refused(tmp_path):
    write_folder(tmp_path / "train", {"a": 1, "b": 1})
    write_parquet(tmp_path / "test" / "x.parquet", [0, 1])
    with pytest.raises(DataError, match="wanted splits of one kind, found train: folder, test: parquet"):
        found_in(tmp_path)


def test_defaults_come_from_the_images(tmp_path):
    write_folder(tmp_path / "My photos", {"a": 6, "b": 4})
    values = settings_found(tmp_path / "My photos")
    assert values["name"] == "My-photos"
    pixels = (
        np.stack(
            [np.random.default_rng(row).integers(0, 256, (8, 8, 3), dtype=np.uint8) for row in [*range(6), *range(4)]]
        )
        / 255
    )
    assert values["data"]["mean"] == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-3)
    assert values["data"]["image_size"] == 32
    assert values["stage1"] == {
        "epochs": 100, "batch_size": 64, "optimizer": "muon", "schedule": "cosine", "warmup_epochs": 1.0,
        "loss": "logit-adjusted", "mixing": "none", "weight_decay": 5e-4
    }  # fmt: skip
    shutil.copytree(tmp_path / "My photos", tmp_path / "moved")
    assert settings_found(tmp_path / "moved")["data"]["mean"] == values["data"]["mean"]


def many(folder, *names, suffix=".parquet"):
    """Files of two images each, whose labels tell them apart."""
    for number, name in enumerate(names):
        write_parquet(folder / f"{name}{suffix}", [0, 1], first=10 * number)


def test_a_file_whose_name_says_test_is_not_trained_on(tmp_path):
    many(tmp_path, "data", "test")
    values = found(tmp_path)
    assert (values["train"], values["test"]) == ("ROOT/data.parquet", "ROOT/test.parquet")
    many(tmp_path, "data", "plankton_valid", "test")
    (tmp_path / "data.parquet").rename(tmp_path / "plankton_1.parquet")
    many(tmp_path, "plankton_2")
    values = found(tmp_path)
    assert values["train"] == "ROOT/plankton_[12]*.parquet"
    assert (values["val"], values["test"]) == ("ROOT/plankton_valid.parquet", "ROOT/test.parquet")
    splits = load(Settings.model_validate(settings_found(tmp_path))).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 4, "val": 2, "test": 2}


def test_tar_files_are_divided_by_their_names_too(tmp_path):
    for name in ("shard-0", "shard-1", "test-0"):
        (tmp_path / f"{name}.tar").write_bytes(b"")
    assert found(tmp_path) == {"source": "webdataset", "train": "ROOT/shard-*.tar", "test": "ROOT/test-0.tar"}


def test_files_of_one_split_alone_are_the_training_images(tmp_path):
    many(tmp_path / "test", "test-0", "test-1")
    assert found(tmp_path / "test")["train"] == "ROOT/test/test*.parquet".replace("ROOT/test", "ROOT")
    many(tmp_path / "plain", "x", "y1")
    assert found(tmp_path / "plain")["train"] == "ROOT/*.parquet"


def test_a_table_and_a_table_of_the_test_split(tmp_path):
    (tmp_path / "photos.csv").write_text("path,label\na.png,a\n")
    (tmp_path / "test.csv").write_text("path,label\nb.png,a\n")
    assert found(tmp_path) == {"source": "table", "train": "ROOT/photos.csv", "test": "ROOT/test.csv"}


def test_training_files_that_cannot_be_told_are_one_line(tmp_path):
    many(tmp_path, "test", "val")
    with pytest.raises(DataError) as error:
        found_in(tmp_path)
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "ROOT: wanted files of training images, found test.parquet, val.parquet; name a file of them train.parquet"
    )
    (tmp_path / "test.parquet").rename(tmp_path / "x_test.parquet")
    many(tmp_path, "x_tiny", "x_t")
    with pytest.raises(DataError) as error:
        found_in(tmp_path)
    assert str(error.value).replace(str(tmp_path), "ROOT") == (
        "ROOT: no pattern names x_t.parquet, x_tiny.parquet alone, the files of train; let their names begin with train- "
        "and no other's"
    )


@pytest.mark.parametrize("method", sorted(path.stem for path in (CONFIGS / "methods").glob("*.toml")))
def test_a_published_method_goes_over_the_settings_found(tmp_path, method):
    write_folder(tmp_path, {"cat": 2, "dog": 1})
    over = load_settings(f"+{method}", base=("photos", settings_found(tmp_path))).settings
    assert over.data.train == str(tmp_path)
    alone = load_settings(f"+{method}", base=("photos", {})).settings
    assert over.stage1.reweight == alone.stage1.reweight
    assert over.stage1.optimizer == ("sgd" if method in ("bbn", "fine-tune", "new-block", "strong") else "muon")
    if method == "bbn":
        assert (over.stage1.schedule, over.stage1.milestones) == ("steps", alone.stage1.milestones)
