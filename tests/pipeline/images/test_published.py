"""Published data sets in small made-up folders of their own layout; what is wrong says what is wanted where."""

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.images.dataset import load
from pipeline.images.discovery import found_in
from pipeline.images.sources.cifar_binary import BINARY
from pipeline.progress import collected
from tests.support.toy_images import error_of, pixels_of, settings

LISTED = {"imagenet-lt": "ImageNet_LT", "places-lt": "Places_LT"}


def image(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)


def inaturalist(root, year="2018", categories=("Acer", "Betula")):
    """Two species, three training images of the first and one of the second, one of each for validation."""
    for split, labels in (("train", [0, 0, 0, 1]), ("val", [1, 0])):
        images, annotations = [], []
        for row, label in enumerate(labels):
            name = f"train_val{year}/Plantae/{label}/{split}{row}.png"
            image(root / name, 10 * row + label)
            images.append({"id": 100 + row, "file_name": name, "width": 8, "height": 8})
            annotations.append({"id": 100 + row, "image_id": 100 + row, "category_id": label})
        named = [{"id": label, "name": name, "supercategory": "Plantae"} for label, name in enumerate(categories)]
        document = {"images": images, "annotations": annotations, "categories": named}
        (root / f"{split}{year}.json").write_text(json.dumps(document))
    return root


def listed(root, source, below=""):
    """Lists as published, `train/<class>/<file> label`, for two classes."""
    (root / below).mkdir(parents=True, exist_ok=True)
    for number, (split, labels) in enumerate({"train": [0, 0, 1], "val": [0, 1], "test": [1, 0]}.items()):
        lines = []
        for row, label in enumerate(labels):
            name = f"{'val' if split == 'test' else 'train'}/n0{label}/{split}_{row}.png"
            image(root / name, 100 * number + row)
            lines.append(f"{name} {label}")
        (root / below / f"{LISTED[source]}_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("year", ["2018", "2019"])
def test_inaturalist_is_read_from_its_json_with_val_as_test(tmp_path, year):
    inaturalist(tmp_path, year)
    with collected() as notes:
        found = load(settings("inaturalist", train=str(tmp_path)))
    assert found.classes == ("Acer", "Betula")
    assert {name: split.labels_N.tolist() for name, split in found.splits.items()} == {
        "train": [0, 0, 0, 1],
        "test": [0, 1],
    }
    assert notes[0].startswith(f"iNaturalist {year}: val{year}.json is the test split")
    by_table = settings(
        "table", train=f"{tmp_path}/train{year}.json", test=f"{tmp_path}/val{year}.json", root=str(tmp_path)
    )
    assert load(by_table).splits["train"].content_digest() == found.splits["train"].content_digest()
    assert load(by_table).splits["train"].samples_digest() == found.splits["train"].samples_digest()


def test_of_two_years_of_inaturalist_the_file_names_one(tmp_path):
    inaturalist(tmp_path, "2018")
    inaturalist(tmp_path, "2019", ("Quercus", "Salix"))
    assert str(error_of(settings("inaturalist", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted one year, found train2018.json and train2019.json; name the file, "
        f"{tmp_path}/train2018.json"
    )
    assert load(settings("inaturalist", train=f"{tmp_path}/train2019.json")).classes == ("Quercus", "Salix")


def test_what_inaturalist_lacks_is_said(tmp_path):
    (tmp_path / "readme.md").touch()
    assert str(error_of(settings("inaturalist", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted the folder with train2018.json, val2018.json and train_val2018/ (or those of 2019), "
        "found readme.md; get them from the competition's site"
    )
    inaturalist(tmp_path / "whole")
    (tmp_path / "whole" / "train_val2018").rename(tmp_path / "elsewhere")
    assert str(error_of(settings("inaturalist", train=str(tmp_path / "whole")))) == (
        f"data.train {tmp_path}/whole: wanted the images in {tmp_path}/whole/train_val2018, found no such folder; unpack "
        f"train_val2018.tar.gz in {tmp_path}/whole, or name the folder that it was unpacked in with --set data.root=FOLDER"
    )
    (tmp_path / "whole" / "val2018.json").unlink()
    assert str(error_of(settings("inaturalist", train=str(tmp_path / "whole")))) == (
        f"data.train {tmp_path}/whole: wanted val2018.json beside train2018.json, found none; put it there"
    )


@pytest.mark.parametrize("source", LISTED)
def test_published_lists_are_found_beside_the_images_or_below(tmp_path, source):
    listed(tmp_path / "beside", source)
    listed(tmp_path / "below", source, LISTED[source])
    start = LISTED[source]
    beside, below = (load(settings(source, train=str(tmp_path / place))) for place in ("beside", "below"))
    paths = {split: f"{tmp_path}/beside/{start}_{split}.txt" for split in ("train", "val", "test")}
    as_list = load(settings("list", root=str(tmp_path / "beside"), **paths))
    for other in (below, as_list):
        for name, split in other.splits.items():
            assert split.samples_digest() == beside.splits[name].samples_digest()
            assert split.content_digest() == beside.splits[name].content_digest()
    assert {name: len(split) for name, split in beside.splits.items()} == {"train": 3, "val": 2, "test": 2}


def test_missing_lists_are_named(tmp_path):
    listed(tmp_path, "imagenet-lt")
    (tmp_path / "ImageNet_LT_val.txt").unlink()
    assert str(error_of(settings("imagenet-lt", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted ImageNet_LT_val.txt beside ImageNet_LT_train.txt, found none; put it there"
    )
    assert str(error_of(settings("places-lt", train=str(tmp_path)))) == (
        f"data.train {tmp_path}: wanted the folder with Places_LT_train.txt, Places_LT_val.txt, Places_LT_test.txt, found "
        "ImageNet_LT_test.txt, ImageNet_LT_train.txt, train, val; the lists come with the code of OLTR (Liu et al., 2019), the "
        "images from the data set's own site"
    )
    assert str(error_of(settings("places-lt", train=str(tmp_path), test="other.txt"))) == (
        "data.test other.txt: the source places-lt brings its own splits; leave data.test empty, or take data.source=list or table"
    )


def binary(root, name):
    """CIFAR's binary version with four training rows a file and two classes; the labels and planes of each split."""
    published = BINARY[name]
    folder = root / published.folder
    folder.mkdir(parents=True)
    (folder / published.names).write_text("apple\naquarium_fish\n\n")
    rows = {}
    for split, files in published.splits.items():
        planes, labels = [], []
        for number, file in enumerate(files):
            draw = np.random.default_rng(number).integers(0, 256, (4, 3072), dtype=np.uint8)
            fine = np.array([[0], [1], [0], [1]], dtype=np.uint8)
            coarse = np.full_like(fine, 19)
            parts = [fine, draw] if published.label_bytes == 1 else [coarse, fine, draw]
            np.concatenate(parts, axis=1).tofile(folder / file)
            planes.append(draw.reshape(4, 3, 32, 32))
            labels += fine[:, 0].tolist()
        rows[split] = (np.concatenate(planes), labels)
    return rows


@pytest.mark.parametrize(("source", "name"), [("cifar10", "CIFAR10"), ("cifar100", "CIFAR100")])
def test_cifar_s_binary_version_is_read_without_unpickling(tmp_path, source, name):
    rows = binary(tmp_path, name)
    for train in (tmp_path, tmp_path / BINARY[name].folder):
        found = load(settings(source, train=str(train), image_size=32))
        assert found.classes == ("apple", "aquarium_fish")
        for split, (planes, labels) in rows.items():
            assert found.splits[split].labels_N.tolist() == labels
            assert (pixels_of(found.splits[split]).numpy() == planes).all()


def test_a_binary_file_cut_short_is_named(tmp_path):
    binary(tmp_path, "CIFAR100")
    file = tmp_path / "cifar-100-binary" / "train.bin"
    file.write_bytes(file.read_bytes()[:-1])
    assert str(error_of(settings("cifar100", train=str(tmp_path)))) == (
        f"data.train {file}: wanted rows of 3,074 bytes, found 12,295 bytes in all; the file is cut short or another's: unpack "
        "the archive again"
    )
    file.unlink()
    assert str(error_of(settings("cifar100", train=str(tmp_path)))) == (
        f"data.train {file}: cannot be read (No such file or directory); wanted the files of CIFAR's binary version there"
    )


def test_a_folder_of_a_published_data_set_is_a_config(tmp_path):
    assert found_in(inaturalist(tmp_path / "inat")) == {"source": "inaturalist", "train": f"{tmp_path}/inat"}
    for source in LISTED:
        assert found_in(listed(tmp_path / source, source)) == {"source": source, "train": f"{tmp_path}/{source}"}
