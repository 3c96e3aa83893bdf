"""Six sources, one way: splits, names, the held-out test, the long-tailed draw, and what is wrong with them."""

import io
import pickle
from hashlib import md5

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from toy_images import error_of, pixels_of, png, settings, write_folder, write_list, write_parquet

from pipeline.errors import ConfigError, DataError
from pipeline.images.dataset import load

# digits and the held-out test split


def test_digits_have_their_names_and_a_test_split_held_out_before_the_draw():
    found = load(settings("digits", {"profile": "exponential", "imbalance_factor": 20}))
    assert found.classes == tuple("0123456789")
    assert list(found.splits) == ["train", "test"]
    assert found.counts()[0] > 15 * found.counts()[9] > 0
    assert found.counts() == sorted(found.counts(), reverse=True)
    test = np.bincount(found.splits["test"].labels_N)
    assert (test >= 34).all()
    assert not set(found.splits["train"].sample_ids) & set(found.splits["test"].sample_ids)


def test_the_test_split_hangs_neither_on_the_seed_nor_on_the_imbalance():
    first = load(settings("digits", {"profile": "exponential", "imbalance_factor": 20}))
    second = load(settings("digits", {"profile": "exponential", "imbalance_factor": 50}, seed=7))
    assert first.splits["test"].content_digest() == second.splits["test"].content_digest()
    assert first.splits["train"].content_digest() != second.splits["train"].content_digest()
    other_seed = load(settings("digits", {"profile": "exponential", "imbalance_factor": 20}, seed=7))
    assert first.counts() == other_seed.counts()
    assert first.splits["train"].samples_digest() != other_seed.splits["train"].samples_digest()


def test_ram_and_workers_hold_the_same_images():
    ram, lazy = load(settings("digits")), load(settings("digits", ram_limit=1e-6))
    assert type(ram.splits["test"].images) is not type(lazy.splits["test"].images)
    assert torch.equal(pixels_of(ram.splits["test"]), pixels_of(lazy.splits["test"]))


# Parquet


@pytest.mark.parametrize("plain", [False, True], ids=["struct", "bytes"])
def test_parquet_globs_folders_and_both_layouts(tmp_path, plain):
    write_parquet(tmp_path / "p" / "train-0.parquet", [0, 1, 1], plain, ["cat", "dog"])
    write_parquet(tmp_path / "p" / "train-1.parquet", [0, 0], plain, ["cat", "dog"], first=3)
    test = write_parquet(tmp_path / "test.parquet", [1, 0], plain, first=9)
    for train in (str(tmp_path / "p"), str(tmp_path / "p" / "train-*.parquet")):
        found = load(settings("parquet", train=train, test=test))
        assert found.classes == ("cat", "dog")
        assert found.counts() == [3, 2]
        assert found.splits["train"].sample_ids[2:4] == ["train-0.parquet#2", "train-1.parquet#0"]
    wanted = np.asarray(Image.open(io.BytesIO(png(4))))
    assert (pixels_of(found.splits["train"])[4].permute(1, 2, 0).numpy() == wanted).all()


def test_parquet_text_labels_are_sorted_names(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", ["dog", "cat", "dog"])
    test = write_parquet(tmp_path / "test.parquet", ["cat"])
    found = load(settings("parquet", train=train, test=test))
    assert found.classes == ("cat", "dog")
    assert found.splits["train"].labels_N.tolist() == [1, 0, 1]
    other = write_parquet(tmp_path / "other.parquet", ["cow"])
    assert str(error_of(settings("parquet", train=train, test=other))) == (
        f"data.test {other}: row 0: wanted one of the 2 classes of the train split, found 'cow'"
    )


def test_label_out_of_range(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", [0, 1, 2, -1], names=["cat", "dog"])
    assert str(error_of(settings("parquet", train=train, test=train))) == (
        f"data.train {train}: row 2: wanted a label from 0 to 1, found 2 (2 such rows); 2 classes are named: correct the "
        "labels, or data.classes"
    )


def test_parquet_columns(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", [0, 1])
    assert str(error_of(settings("parquet", train=train, image_column="img"))) == (
        f"data.train {train}: no column 'img', found image, label; name it with --set data.image_column=NAME"
    )
    assert str(error_of(settings("parquet", train=train, image_column="label"))) == (
        f"data.train {train}: column 'label': wanted bytes or a struct {{bytes, path}}, found Int64"
    )
    (tmp_path / "bad.parquet").write_text("nothing")
    assert str(error_of(settings("parquet", train=str(tmp_path / "bad.parquet")))).startswith(
        f"data.train {tmp_path}/bad.parquet: cannot be read as Parquet ("
    )


def test_parquet_label_missing(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", [0, None, 1])
    assert str(error_of(settings("parquet", train=train))) == (
        f"data.train {train}: row 1: wanted a label in column 'label', found none"
    )


def test_missing_files(tmp_path):
    assert str(error_of(settings("parquet", train=str(tmp_path / "x-*.parquet")))) == (
        f"data.train {tmp_path}/x-*.parquet: no such file; wanted a file, a folder with *.parquet, or a glob"
    )
    assert str(error_of(settings("parquet"))) == (
        "data.train: wanted a path, found nothing; give one with --set data.train=PATH"
    )


def test_a_variable_that_is_not_set(monkeypatch):
    monkeypatch.delenv("COATTAIL_DATA", raising=False)
    error = error_of(settings("parquet", train="$COATTAIL_DATA/cifar10/train-*.parquet"))
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "data.train $COATTAIL_DATA/cifar10/train-*.parquet: the variable $COATTAIL_DATA is not set; export "
        "COATTAIL_DATA=FOLDER, or give a path with --set data.train=PATH, or take torchvision's with --set "
        "data.source=cifar10 --set data.train=FOLDER"
    )


def test_real_cifar_is_drawn_as_published(real_data):
    chosen = {"train": f"{real_data}/cifar100/train-*.parquet", "test": f"{real_data}/cifar100/test-*.parquet"}
    found = load(settings("parquet", {"profile": "exponential", "imbalance_factor": 100, "n_max": 500}, **chosen))
    assert (sum(found.counts()), len(found.splits["test"])) == (10847, 10000)
    assert (found.counts()[0], found.counts()[-1]) == (500, 5)
    assert (found.classes[0], found.classes[-1]) == ("apple", "worm")


def test_real_plankton_has_its_names_and_one_image_in_both_splits(real_data, capsys):
    folder = real_data / "plankton"
    if not folder.is_dir():
        pytest.skip("plankton images are wanted in $COATTAIL_DATA/plankton")
    found = load(settings("parquet", train=f"{folder}/train-*.parquet", test=f"{folder}/test-*.parquet"))
    assert (len(found.classes), sum(found.counts()), len(found.splits["test"])) == (121, 21233, 6071)
    assert (found.classes[0], min(found.counts()), max(found.counts())) == ("acantharia_protist", 6, 1385)
    assert found.decoding == {}
    assert "data.test: 1 of 6071 images are training images too: " in capsys.readouterr().err


# torchvision


@pytest.fixture
def toy_cifar(tmp_path, monkeypatch):
    """A folder in the layout of CIFAR-10, ten images, and the checksums by which torchvision knows it."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    sums = {}
    for name, labels in (("data_batch_1", [0, 1, 0]), ("test_batch", [1])):
        images = np.random.default_rng(len(labels)).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        content = pickle.dumps({"data": images, "labels": labels})
        (folder / name).write_bytes(content)
        sums[name] = md5(content).hexdigest()
    meta = pickle.dumps({"label_names": ["airplane", "automobile"]})
    (folder / "batches.meta").write_bytes(meta)
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5(meta).hexdigest()})
    return tmp_path


def test_torchvision_s_cifar(toy_cifar):
    found = load(settings("cifar10", train=str(toy_cifar), test="$NOT_USED", image_size=32))
    assert found.classes == ("airplane", "automobile")
    assert found.counts() == [2, 1]
    assert found.splits["test"].sample_ids == ["test#0"]
    planes = np.random.default_rng(1).integers(0, 256, (1, 3072), dtype=np.uint8).reshape(3, 32, 32)
    assert (pixels_of(found.splits["test"])[0].numpy() == planes).all()


def test_torchvision_s_cifar_is_not_there(tmp_path):
    assert str(error_of(settings("cifar100", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted the folder of torchvision's CIFAR100 (Dataset not found or corrupted. You can use "
        "download=True to download it); get it with --set data.download=true, unpack its binary version there "
        "(cifar-100-binary), or read Parquet files with --set data.source=parquet"
    )


# one folder a class


def test_folder(tmp_path):
    train = write_folder(tmp_path / "train", {"dog": 3, "a cat": 5})
    test = write_folder(tmp_path / "test", {"dog": 2})
    (tmp_path / "train" / "dog" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".hidden").mkdir()
    found = load(settings("folder", train=train, test=test))
    assert found.classes == ("a cat", "dog")
    assert found.counts() == [5, 3]
    assert found.splits["train"].sample_ids[4:6] == ["a cat/4.png", "dog/0.png"]
    assert found.splits["test"].labels_N.tolist() == [1, 1]


def test_folder_with_train_only(tmp_path):
    found = load(settings("folder", train=write_folder(tmp_path / "train", {"a": 10, "b": 5}), test_share=0.2))
    assert found.counts() == [8, 4]
    assert np.bincount(found.splits["test"].labels_N).tolist() == [2, 1]


def test_the_only_image_of_a_class_stays_in_training(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 10, "b": 1})
    found = load(settings("folder", train=train))
    assert found.counts() == [8, 1]
    assert np.bincount(found.splits["test"].labels_N, minlength=2).tolist() == [2, 0]
    assert "class 1 (b): the only image stays in training, so the test split has none\n" in capsys.readouterr().err
    assert load(settings("folder", train=train, test=train)).counts() == [10, 1]


def test_empty_class(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 10, "b": 0})
    assert str(error_of(settings("folder", train=train))) == (
        "class 1 (b): no training image (1 of 2 classes have none); add images, or take the class out of labels and class "
        "names"
    )


def test_one_class(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 10})
    assert str(error_of(settings("folder", train=train))) == "wanted at least 2 classes, found 1 (a)"


def test_folders_that_are_not_classes(tmp_path):
    write_folder(tmp_path, {"train": 1, "test": 1})
    assert str(error_of(settings("folder", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted one folder a class, found test, train; point data.train and data.test at those"
    )
    missing = tmp_path / "nowhere"
    assert str(error_of(settings("folder", train=str(missing)))) == (
        f"data.train {missing}: wanted a folder with one folder of images a class, found none there"
    )


def test_a_test_folder_of_another_class(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    test = write_folder(tmp_path / "test", {"a": 2, "c": 2})
    assert str(error_of(settings("folder", train=train, test=test))) == (
        f"data.test {test}: wanted the 2 class folders a, b, found 'c' too; rename or remove it"
    )


# broken images


def test_broken_image_is_named_or_left_out_and_listed(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"a": 4, "b": 4})
    (tmp_path / "train" / "b" / "2.png").write_bytes(png(2)[:60])
    found = load(settings("folder", train=train, test=train))
    with pytest.raises(
        DataError, match=r"^image b/2\.png: cannot be decoded \(.+\); replace it, or leave such images out"
    ):
        found.splits["train"].images.prepare()
    for ram_limit in (1.0, 1e-9):
        found = load(settings("folder", train=train, test=train, on_bad="skip", bad_limit=1, ram_limit=ram_limit))
        assert found.counts() == [4, 3]
        assert len(found.skipped) == 2
        assert found.skipped[0].startswith("b/2.png (")
        assert f"left out: {found.skipped[0]}\n" in capsys.readouterr().err
        assert "b/2.png" not in found.splits["train"].sample_ids
        assert pixels_of(found.splits["train"]).shape[0] == 7


def test_grey_palette_and_alpha_images_stand_beside_rgb(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 2, "b": 2})
    for row, mode in enumerate(("L", "P")):
        (tmp_path / "train" / "a" / f"{row}.png").write_bytes(png(row, mode))
        (tmp_path / "train" / "b" / f"{row}.png").write_bytes(png(row, "RGBA"))
    pixels = pixels_of(load(settings("folder", train=train, test=train)).splits["train"])
    assert torch.equal(pixels[0, 0], pixels[0, 1])
    assert torch.equal(pixels[2].permute(1, 2, 0), torch.from_numpy(np.array(Image.open(io.BytesIO(png(0))))))


# list files


def test_list_labels_are_last_and_paths_may_hold_spaces(tmp_path):
    train = write_list(tmp_path, ["my cats/one 1.png 0", "my cats/two.png 0", "dogs/three.png 1"])
    found = load(settings("list", train=train, test=train))
    assert found.classes == ("my cats", "dogs")
    assert found.splits["train"].sample_ids[0] == "my cats/one 1.png"
    assert found.splits["train"].labels_N.tolist() == [0, 0, 1]
    named = load(settings("list", train=train, test=train, classes=["c", "d"]))
    assert named.classes == ("c", "d")


def test_list_without_a_folder_a_class_is_named_by_number(tmp_path):
    train = write_list(tmp_path, ["x/1.png 0", "y/2.png 0", "x/3.png 1"])
    assert load(settings("list", train=train, test=train)).classes == ("0", "1")


DIALECTS = {
    "train": ("train/apartment_building-outdoor/1.jpg", "train/zen_garden/2.jpg", "val/zen_garden/Places365_val_7.jpg"),
    "data_256": (
        "data_256/a/apartment_building/outdoor/1.jpg",
        "data_256/z/zen_garden/2.jpg",
        "val_256/Places365_val_7.jpg",
    ),
    "places365_standard": (
        "places365_standard/train/apartment_building-outdoor/1.jpg",
        "places365_standard/train/zen_garden/2.jpg",
        "places365_standard/val/zen_garden/Places365_val_7.jpg",
    ),
}


@pytest.mark.parametrize("listed", DIALECTS)
@pytest.mark.parametrize("stored", DIALECTS)
def test_places_in_any_dialect_of_list_and_of_folder(tmp_path, listed, stored):
    for number, path in enumerate(DIALECTS[stored]):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(png(number))
    first, second, third = DIALECTS[listed]
    (tmp_path / "train.txt").write_text(f"{first} 0\n{second} 1\n")
    (tmp_path / "test.txt").write_text(f"{third} 1\n")
    found = load(settings("list", train=f"{tmp_path}/train.txt", test=f"{tmp_path}/test.txt", root=str(tmp_path)))
    assert found.classes == ("apartment_building-outdoor", "zen_garden")
    assert found.splits["train"].paths == list(DIALECTS[stored][:2])
    assert found.splits["test"].paths == [DIALECTS[stored][2]]
    assert found.splits["train"].sample_ids == list(DIALECTS["train"][:2])
    assert found.splits["test"].sample_ids == [DIALECTS["train"][2]]


def test_missing_listed_files_are_counted_over_all_splits_before_any_work(tmp_path):
    train = write_list(tmp_path, ["a/1.png 0", "b/2.png 1"])
    test = tmp_path / "test.txt"
    test.write_text("".join(f"a/gone {number}.png 0\n" for number in range(7)) + "b/2.png 1\n")
    assert str(error_of(settings("list", train=train, test=str(test)))) == (
        f"7 of 10 listed files are missing under {tmp_path}: a/gone 0.png, a/gone 1.png, a/gone 2.png, a/gone 3.png, "
        "a/gone 4.png, …; check data.root"
    )


@pytest.mark.parametrize("line", ["a/1.png", "0", "a/1.png cat", "a/1.png 1.5"])
def test_list_lines_that_are_not_path_and_label(tmp_path, line):
    (tmp_path / "train.txt").write_text(f"\n{line}\n")
    assert str(error_of(settings("list", train=f"{tmp_path}/train.txt"))) == (
        f"data.train {tmp_path}/train.txt: line 2: wanted `path label` with an integer label last, found {line!r}"
    )


def test_list_labels_out_of_range_twice_and_missing(tmp_path):
    train = write_list(tmp_path, ["a/1.png 0", "b/2.png 1"])
    test = write_list(tmp_path, ["a/1.png 2"], "test.txt")
    assert str(error_of(settings("list", train=train, test=test))) == (
        f"data.test {test}: row 0: wanted a label from 0 to 1, found 2 (1 such rows); 2 classes are named: correct the "
        "labels, or data.classes"
    )
    twice = write_list(tmp_path, ["a/1.png 0", "b/2.png 1", "a/1.png 0"], "twice.txt")
    assert str(error_of(settings("list", train=twice))) == (
        f"data.train {twice}: a/1.png is listed twice; keep one of the lines"
    )
    assert str(error_of(settings("list", train=f"{tmp_path}/no.txt"))) == (
        f"data.train {tmp_path}/no.txt: wanted a list file, `path label` a line (No such file or directory)"
    )


# the long-tailed draw


def test_the_profile_asks_for_more_than_there_is(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 10, "b": 4})
    assert str(
        error_of(
            settings("folder", {"profile": "exponential", "imbalance_factor": 2, "n_max": 10}, train=train, test=train)
        )
    ) == (
        "class 1 (b): the profile wants 5 images, found 4; lower longtail.n_max (at most 9 here) or raise "
        "longtail.imbalance_factor"
    )
    assert load(
        settings("folder", {"profile": "exponential", "imbalance_factor": 2}, train=train, test=train)
    ).counts() == [9, 4]


def test_the_profile_leaves_no_image(tmp_path):
    train = write_folder(tmp_path / "train", {"a": 10, "b": 4})
    assert str(
        error_of(settings("folder", {"profile": "exponential", "imbalance_factor": 20}, train=train, test=train))
    ) == (
        "class 1 (b): the profile leaves no image (n_max 10, imbalance factor 20); lower longtail.imbalance_factor or "
        "raise longtail.n_max"
    )


def test_val_and_test_are_never_drawn_from(tmp_path):
    whole = write_folder(tmp_path / "train", {"a": 10, "b": 5})
    found = load(
        settings("folder", {"profile": "exponential", "imbalance_factor": 5}, train=whole, val=whole, test=whole)
    )
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 12, "val": 15, "test": 15}


def test_three_channels_of_mean_and_std():
    error = error_of(settings("digits", mean=[0.5]))
    assert isinstance(error, ConfigError)
    assert str(error) == "data.mean: wanted 3 values, red, green and blue, found 1"


def test_shards_of_parquet_whose_labels_have_two_widths_are_one_split(tmp_path):
    for part, dtype in enumerate((np.int64, np.int32, np.uint8)):
        write_parquet(
            tmp_path / f"train-0000{part}-of-00003.parquet", np.array([0, 1, part], dtype=dtype), first=3 * part
        )
    found = load(settings("parquet", train=str(tmp_path), test=str(tmp_path)))
    assert found.classes == ("0", "1", "2")
    assert found.splits["train"].labels_N.tolist() == [0, 1, 0, 0, 1, 1, 0, 1, 2]
    assert found.splits["train"].sample_ids[3] == "train-00001-of-00003.parquet#0"
