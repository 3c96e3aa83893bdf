"""Which class is which: names decide, in every file; where only numbers exist, it is said."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import save_file

from cache import CacheInvalid
from cache.exchange.contents import Dataset, read_dataset
from cache.exchange.request import Request

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
CALF, CAFE = "caf\u00e9", "cafe\u0301"


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def read(*sources: Path | tuple[str, Path], **rest) -> Dataset:
    return read_dataset(
        Request(tuple(source if isinstance(source, tuple) else ("", source) for source in sources), **rest)
    )


def refused(*sources: Path | tuple[str, Path], **rest) -> str:
    with pytest.raises(CacheInvalid) as caught:
        read(*sources, **rest)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def labels(dataset: Dataset) -> dict[str, list[int]]:
    return {split: table.labels_N.tolist() for split, table in dataset.splits.items()}


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "2", "2", "0", "10", "2"], ("0", "2", "10")),
        (["10", "2", "x", "0", "10", "2"], ("0", "10", "2", "x")),
        (["9" * 500, "2", "2", "0", "10", "2"], ("0", "10", "2", "9" * 500)),
    ],
    ids=["digits", "text", "long digits"],
)
def test_text_labels_that_are_digits_are_ordered_as_numbers(tmp_path, names, order):
    assert read(npz(tmp_path / "a.npz", x=FEATURES, y=np.array(names))).classes == order


def _files(folder: Path, form: str, names: dict[str, list[str]], numbers: list[int]) -> list[tuple[str, Path]]:
    """A file a split, each with the class names in an order of its own, and the same class numbers in both."""
    sources = []
    for split, classes in names.items():
        path = folder / f"{split}.{form.removeprefix('hub ')}"
        if form == "npz":
            npz(path, x=FEATURES, y=np.array(numbers), classes=np.array(classes))
        elif form == "safetensors":
            save_file({"x": FEATURES, "y": np.array(numbers)}, path, {"classes": json.dumps(classes)})
        else:
            own = {"coattail": json.dumps({"classes": json.dumps(classes)})}
            features = {"label": {"names": classes, "_type": "ClassLabel"}, "x": {"feature": {}, "_type": "Sequence"}}
            hub = {"huggingface": json.dumps({"info": {"features": features}})}
            metadata = own if form == "parquet" else hub
            frame = pl.DataFrame({"x": FEATURES.tolist(), "label": numbers})
            frame.write_parquet(path, metadata=metadata)
        sources.append((split, path))
    return sources


FORMS = ["npz", "safetensors", "parquet", "hub parquet"]
ORDERS = {"train": ["cat", "dog", "owl"], "test": ["owl", "cat", "dog"]}


@pytest.mark.parametrize("form", FORMS)
def test_a_test_file_s_own_order_is_matched_by_name(tmp_path, form):
    dataset = read(*_files(tmp_path, form, ORDERS, [0, 1, 2, 0, 1, 2]))
    assert dataset.classes == ("cat", "dog", "owl")
    assert labels(dataset) == {"train": [0, 1, 2, 0, 1, 2], "test": [2, 0, 1, 2, 0, 1]}
    assert any(note.endswith("; rows are matched by name") for note in dataset.notes)


@pytest.mark.parametrize("form", FORMS)
def test_classes_that_a_user_orders_are_matched_by_name(tmp_path, form):
    (tmp_path / "c.json").write_text(json.dumps(["dog", "owl", "cat"]))
    dataset = read(*_files(tmp_path, form, ORDERS, [0, 1, 2, 0, 1, 2]), classes=tmp_path / "c.json")
    assert labels(dataset) == {"train": [2, 0, 1, 2, 0, 1], "test": [1, 2, 0, 1, 2, 0]}
    (tmp_path / "c.json").write_text(json.dumps(["Katze", "Hund", "Eule"]))
    train = _files(tmp_path, form, ORDERS, [0, 1, 2, 0, 1, 2])[0]
    dataset = read(train, classes=tmp_path / "c.json")
    assert (dataset.classes, labels(dataset)) == (("Katze", "Hund", "Eule"), {"train": [0, 1, 2, 0, 1, 2]})
    assert any(note.endswith("; class numbers are kept, the names are the latter's") for note in dataset.notes)


@pytest.mark.parametrize("form", FORMS)
def test_a_class_that_train_does_not_have(tmp_path, form):
    orders = {"train": ["cat", "dog", "owl"], "test": ["owl", "fox", "dog"]}
    sources = _files(tmp_path, form, orders, [0, 1, 2, 0, 1, 2])
    assert ": row 1: class 'fox' is none of the 3 of " in refused(*sources)
    sources = [sources[0], _files(tmp_path, form, {"test": orders["test"]}, [0, 2, 2, 0, 0, 2])[0]]
    assert labels(read(*sources))["test"] == [2, 1, 1, 2, 2, 1]


def test_numbers_with_names_and_labels_that_are_names(tmp_path):
    train = npz(tmp_path / "train.npz", x=FEATURES, y=np.array(["owl", "cat"] * 3))
    test = npz(tmp_path / "test.npz", x=FEATURES, y=np.array([0, 1] * 3), classes=np.array(["owl", "cat"]))
    dataset = read(("train", train), ("test", test))
    assert (dataset.classes, labels(dataset)["test"]) == (("cat", "owl"), [1, 0] * 3)
    bare = npz(tmp_path / "bare.npz", x=FEATURES, y=np.array([0, 1] * 3))
    assert refused(("train", train), ("test", bare)) == (
        "labels are text in train and numbers without names in test; give the same in all"
    )


def test_numbers_that_cannot_be_checked_are_named(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES, y=np.array([0, 1] * 3))
    unchecked = (
        "train and test hold class numbers without names, in files of their own: that a number means the same class in "
        "each cannot be checked"
    )
    assert (
        read(("train", path), ("test", npz(tmp_path / "b.npz", x=FEATURES, y=np.array([0, 1] * 3)))).notes[-1]
        == unchecked
    )
    both = npz(tmp_path / "c.npz", x=FEATURES, y=np.array([0, 1] * 3), test_x=FEATURES, test_y=np.array([0, 1] * 3))
    assert unchecked not in read(both).notes


def test_spellings_of_one_name_are_one_class(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES, y=np.array([CALF, CAFE, "tea", "tea ", "\ufefftea", CALF]))
    dataset = read(path)
    assert (dataset.classes, labels(dataset)) == ((CALF, "tea"), {"train": [0, 0, 1, 1, 1, 0]})
    assert dataset.notes[-1] == (
        "labels: 3 spellings differ from another only in spaces or in how an accent is written; they are taken as the same "
        "class"
    )
    given = npz(tmp_path / "b.npz", x=FEATURES, y=np.array([CALF, "tea"] * 3), classes=np.array(["tea", CAFE]))
    assert (read(given).classes, labels(read(given))) == (("tea", CAFE), {"train": [1, 0] * 3})


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([CALF, CAFE], f"the names of classes 0 and 1, {CALF!r} and {CAFE!r}, look alike: they differ only in spaces or in how "
         "an accent is written; give them names that differ"),
        (["tea", " "], "the name of class 1 is blank; give it one, or take the line out"),
        (["tea", "7" * 5000], f"wanted at most 1024 characters, found '{'7' * 60}'… (5000 characters)"),
    ],
    ids=["twins", "blank", "long"],
)  # fmt: skip
def test_names_that_are_no_names(tmp_path, names, reason):
    source = npz(tmp_path / "a.npz", x=FEATURES, y=np.array([0, 1] * 3))
    (tmp_path / "c.json").write_text(json.dumps(names))
    assert refused(source, classes=tmp_path / "c.json") == f"{tmp_path}/c.json: {reason}"
    (tmp_path / "c.txt").write_text("\n".join(names) + "\n")
    assert refused(source, classes=tmp_path / "c.txt") == f"{tmp_path}/c.txt: {reason}"


def test_labels_that_are_no_names(tmp_path):
    path = npz(tmp_path / "a.npz", x=FEATURES, y=np.array(["a", "b", " ", "a", "b", "a"]))
    assert refused(path) == f"{path}[y]: row 2: the label is blank; give the row a class, or leave it out"
    path = npz(tmp_path / "b.npz", x=FEATURES, y=np.array(["a"] * 5 + ["7" * 5000]), classes=np.array(["a", "b"]))
    assert refused(path) == (
        f"{path}[y]: row 5: label '{'7' * 60}'… (5000 characters) is none of the 2 classes of {path}[classes]"
    )
    path = npz(tmp_path / "c.npz", x=FEATURES, y=np.array(["a", "b"] * 3), classes=np.array(["a", "a", "b"]))
    assert refused(path) == (
        f"{path}[classes]: classes 0 and 1 are both called 'a', so that names cannot say which is meant; "
        "give each a name of its own"
    )


@pytest.mark.parametrize("name", ["c.txt", "c.json"])
def test_a_byte_order_mark_and_line_ends_are_no_part_of_a_name(tmp_path, name):
    text = {"c.txt": "cat\r\ndog\r\n", "c.json": '["cat", "dog"]'}[name]
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = npz(tmp_path / "a.npz", x=FEATURES, y=np.array([0, 1] * 3))
    assert read(source, classes=tmp_path / name).classes == ("cat", "dog")


def test_digits_with_zeros_in_front_are_names(tmp_path):
    (tmp_path / "c.txt").write_text("007\n01\n")
    source = npz(tmp_path / "a.npz", x=FEATURES, y=np.array(["01", "007"] * 3))
    assert labels(read(source, classes=tmp_path / "c.txt")) == {"train": [1, 0] * 3}


def test_one_hot_labels_and_a_column_of_labels(tmp_path):
    wanted = [0, 2, 1, 0, 0, 1]
    for dtype in (np.float32, np.int64, bool):
        path = npz(tmp_path / "a.npz", x=FEATURES, y=np.eye(3)[wanted].astype(dtype))
        dataset = read(path)
        assert (labels(dataset), len(dataset.classes)) == ({"train": wanted}, 3)
        assert dataset.notes[-1] == (
            f"train: labels {path}[y] are one-hot, (6, 3): the class of a row is where its 1 stands"
        )
    assert labels(read(npz(tmp_path / "b.npz", x=FEATURES, y=np.array(wanted)[:, None]))) == {"train": wanted}


def test_labels_that_begin_at_1_are_kept_and_named(tmp_path):
    dataset = read(npz(tmp_path / "a.npz", x=FEATURES, y=np.array([1, 3] * 3)))
    assert dataset.classes == ("0", "1", "2", "3")
    assert dataset.notes[-1] == (
        "labels run from 1 to 3: class 0 has no row in any split; if the first class is 1, subtract 1 from all"
    )
