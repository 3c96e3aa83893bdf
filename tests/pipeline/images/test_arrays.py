"""Images as numpy arrays, and in tar files of WebDataset: the same pixels and labels as any other source's."""

import hashlib
import io
import json
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from pipeline.images.dataset import load
from pipeline.images.sources import load_source
from tests.support.toy_images import error_of, pixels_of, png, settings, write_folder

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
LABELS = np.array([0, 0, 0, 1, 1, 2])


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": PIXELS, "labels": LABELS},
        {"x_train": PIXELS, "y_train": LABELS[:, None], "x_test": PIXELS[:3], "y_test": LABELS[::2, None]},
        {"train_images": PIXELS, "train_labels": np.eye(3, dtype=int)[LABELS]},
    ],
    ids=["plain", "keras", "medmnist"],
)
def test_npz_files_by_the_names_that_people_use(tmp_path, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    test = "" if "x_test" in arrays else str(tmp_path / "a.npz")
    if "train_images" in arrays:
        np.savez(tmp_path / "b.npz", images=PIXELS, labels=LABELS)
        test = str(tmp_path / "b.npz")
    found = load(settings("npz", train=str(tmp_path / "a.npz"), test=test))
    assert torch.equal(pixels_of(found.splits["train"]), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert found.splits["train"].labels_N.tolist() == LABELS.tolist()
    assert found.splits["train"].sample_ids[1] == "train#1"
    assert found.splits["test"].labels_N.tolist() == ([0, 0, 1] if "x_test" in arrays else LABELS.tolist())


@pytest.mark.parametrize("shape", [(6, 8, 8), (6, 8, 8, 1)])
def test_npy_files_with_labels_beside_are_mapped_and_grey_is_repeated(tmp_path, shape):
    grey = PIXELS[..., 0].reshape(shape)
    np.save(tmp_path / "photos.npy", grey)
    np.save(tmp_path / "photos_labels.npy", np.array(["a", "a", "a", "b", "b", "c"]))
    found = load(settings("npz", train=str(tmp_path / "photos.npy"), test=str(tmp_path / "photos.npy"), ram_limit=1e-9))
    assert found.classes == ("a", "b", "c")
    wanted = torch.from_numpy(np.repeat(PIXELS[:, None, :, :, 0], 3, axis=1))
    assert torch.equal(pixels_of(found.splits["train"]), wanted)


def wrong_arrays(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return str(error_of(settings("npz", train=str(tmp_path / "a.npz")))).replace(str(tmp_path), "ROOT")


def test_arrays_that_are_no_images_are_refused(tmp_path):
    assert wrong_arrays(tmp_path, images=PIXELS / 255, labels=LABELS) == (
        "data.train ROOT/a.npz: labels: wanted images as uint8 (N, H, W, 3), (N, H, W, 1) or (N, H, W), found float64 "
        "(6, 8, 8, 3); convert them to 0 … 255 with the colours last"
    )
    assert wrong_arrays(tmp_path, images=PIXELS, labels=LABELS[:4]) == (
        "data.train ROOT/a.npz: labels: wanted a label for each of 6 images, found an array (4,)"
    )
    assert wrong_arrays(tmp_path, this=PIXELS, that=LABELS) == (
        "data.train ROOT/a.npz: wanted arrays of images and labels, such as images and labels, found that, this; name them "
        "with --set data.image_column=NAME --set data.label_column=NAME"
    )
    assert wrong_arrays(tmp_path, images=np.array([{}]), labels=LABELS).startswith(
        "data.train ROOT/a.npz: cannot be read as arrays (Object arrays cannot be loaded"
    )


@pytest.mark.parametrize("kept", [0, 5, 30, 200, -10])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_an_empty_or_cut_file_is_one_line(tmp_path, suffix, kept):
    place = tmp_path / f"a{suffix}"
    np.save(place, PIXELS) if suffix == ".npy" else np.savez(place, images=PIXELS, labels=LABELS)
    np.save(tmp_path / "labels.npy", LABELS)
    place.write_bytes(place.read_bytes()[:kept])
    start = "a.npy cannot be read as an array (" if suffix == ".npy" else "cannot be read as arrays ("
    assert str(error_of(settings("npz", train=str(place)))).startswith(f"data.train {place}: {start}")


def test_an_empty_file_says_so(tmp_path):
    place = tmp_path / "a.npz"
    place.write_bytes(b"")
    assert str(error_of(settings("npz", train=str(place)))) == (
        f"data.train {place}: cannot be read as arrays (No data left in file)"
    )


def inside(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def as_npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_damaged_array_in_an_archive_and_a_file_of_the_other_kind_are_one_line(tmp_path):
    def wrong(content, name="a.npz"):
        (tmp_path / name).write_bytes(content)
        np.save(tmp_path / "labels.npy", LABELS)
        return str(error_of(settings("npz", train=str(tmp_path / name)))).replace(str(tmp_path), "ROOT")

    empty = inside(images=b"", labels=as_npy(LABELS))
    assert wrong(empty) == (
        "data.train ROOT/a.npz: cannot be read as arrays (images.npy in it holds no array); write the file again"
    )
    whole = bytearray(inside(images=as_npy(PIXELS), labels=as_npy(LABELS)))
    whole[whole.rindex(b"PK\x01\x02") + 8] |= 1
    assert wrong(bytes(whole)).startswith(
        "data.train ROOT/a.npz: cannot be read as arrays (File 'labels.npy' is encrypted"
    )
    assert wrong(as_npy(PIXELS)) == "data.train ROOT/a.npz: is a .npy file by its content; name it so"
    assert wrong(empty, "b.npy") == "data.train ROOT/b.npy: b.npy is a .npz file by its content; name it so"
    brackets = b"{'descr':" + b"(" * 5000
    header = b"\x93NUMPY\x01\x00" + len(brackets).to_bytes(2, "little") + brackets
    assert wrong(header, "c.npy").startswith(
        "data.train ROOT/c.npy: c.npy cannot be read as an array (EOF in multi-line"
    )


def test_a_file_of_all_splits_keeps_those_that_no_setting_names(tmp_path):
    both = {"x_train": PIXELS, "y_train": LABELS, "dev_x": PIXELS[:2], "dev_y": LABELS[:2]}
    np.savez(tmp_path / "a.npz", **both, x_test=PIXELS[:3], y_test=LABELS[:3])
    np.savez(tmp_path / "b.npz", images=PIXELS[:4], labels=LABELS[:4])
    train, other = str(tmp_path / "a.npz"), str(tmp_path / "b.npz")

    def sizes(**data):
        splits = load_source(settings("npz", train=train, **data).data).splits
        return {name: len(raw.labels_N) for name, raw in splits.items()}

    assert sizes() == {"train": 6, "val": 2, "test": 3}
    assert sizes(val=other) == {"train": 6, "val": 4, "test": 3}
    assert sizes(test=train, val=other) == {"train": 6, "val": 4, "test": 3}
    np.savez(tmp_path / "c.npz", x_train=PIXELS, y_train=LABELS)
    lacking = str(error_of(settings("npz", train=train, test=str(tmp_path / "c.npz"))))
    assert lacking == f"data.test {tmp_path}/c.npz: wanted arrays of the split test, found those of train alone"


def write_tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


def test_shards_are_read_by_place_with_labels_of_either_kind(tmp_path):
    rows = [(f"cat/{row}", "cat", png(row)) for row in range(3)] + [(f"dog/{row}", "dog", png(row)) for row in range(2)]
    first = [
        part for name, label, image in rows[:2] for part in ((f"{name}.png", image), (f"{name}.cls", label.encode()))
    ]
    rest = [
        part
        for name, label, image in rows[2:]
        for part in ((f"{name}.json", json.dumps({"label": label}).encode()), (f"{name}.seg.png", image))
    ]
    write_tar(tmp_path / "train-0.tar", first)
    write_tar(tmp_path / "train-1.tar", rest)
    chosen = settings("webdataset", train=str(tmp_path / "train-*.tar"), test=str(tmp_path))
    found = load(chosen)
    write_folder(tmp_path / "all", {"cat": 3, "dog": 2})
    as_folder = load(settings("folder", train=str(tmp_path / "all"), test=str(tmp_path / "all")))
    assert found.classes == ("cat", "dog")
    assert found.splits["train"].content_digest() == as_folder.splits["train"].content_digest()
    assert found.splits["train"].digests[4] == hashlib.sha256(png(1)).digest()
    assert torch.equal(pixels_of(found.splits["train"]), pixels_of(as_folder.splits["train"]))


def wrong_tar(tmp_path, members, mode="w"):
    path = write_tar(tmp_path / "a.tar", members, mode)
    return str(error_of(settings("webdataset", train=path))).replace(str(tmp_path), "ROOT")


def test_shards_that_lack_something_are_refused(tmp_path):
    assert wrong_tar(tmp_path, [("1.png", png(1))]) == (
        "data.train ROOT/a.tar: sample 1: wanted a label (.cls or .json), found .png"
    )
    assert wrong_tar(tmp_path, [("1.cls", b"1")]) == "data.train ROOT/a.tar: sample 1: wanted an image, found .cls"
    assert wrong_tar(tmp_path, [("1.png", png(1)), ("1.json", b'{"kind": 1}')]) == (
        "data.train ROOT/a.tar: sample 1: wanted a label under 'label' in its .json, found kind; set data.label_column"
    )
    assert wrong_tar(tmp_path, [("1.png", png(1)), ("1.cls", b"1")], "w:gz") == (
        "data.train ROOT/a.tar: cannot be read as a tar file (it is compressed: unpack it once, as with gunzip, for samples "
        "are read by their place)"
    )
