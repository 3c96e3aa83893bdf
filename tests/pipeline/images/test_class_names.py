"""Which class is which is decided once: by name between splits and files, and said where only numbers are known."""

import numpy as np
import pytest
from toy_images import error_of, settings, write_folder, write_list, write_parquet

from pipeline.errors import DataError
from pipeline.images.dataset import load
from pipeline.images.sources.class_names import checked, in_order, spelled

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_spelling():
    assert spelled("\ufeffcat") == "cat"
    assert spelled(DECOMPOSED) == spelled(COMPOSED) == COMPOSED
    assert spelled(b"caf\xe9".decode("utf-8", "surrogateescape")) == "caf\\udce9"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", "", "b"], "data.classes: name 2 of 3 is empty; take it out, or give it a name"),
        (["a", " \t"], "data.classes: name 2 of 2 is empty; take it out, or give it a name"),
        ([COMPOSED, "b", DECOMPOSED], "data.classes: names 1 and 3 are both 'café'; give each class its own name"),
        (["\ufeffcat", "cat"], "data.classes: names 1 and 2 are both 'cat'; give each class its own name"),
    ],
)
def test_names_that_are_empty_or_alike_are_refused_by_number(names, problem):
    with pytest.raises(DataError) as error:
        checked("data.classes", names)
    assert str(error.value) == problem


def test_numbers_are_in_the_order_of_numbers_and_names_in_that_of_characters():
    assert in_order(["10", "2", "1"]) == ["1", "2", "10"]
    assert in_order(["10", "2", "b"]) == ["10", "2", "b"]
    assert in_order(["9" * 5000, "10", "007"]) == ["007", "10", "9" * 5000]


@pytest.mark.parametrize("source", ["folder", "list", "parquet", "digits"])
def test_names_of_the_settings_are_checked_in_every_source(tmp_path, source):
    train = {
        "folder": lambda: write_folder(tmp_path / "train", {"a": 2, "b": 2}),
        "list": lambda: write_list(tmp_path, ["x/1.png 0", "y/2.png 1"]),
        "parquet": lambda: write_parquet(tmp_path / "train.parquet", [0, 1]),
        "digits": str,
    }[source]()
    assert str(error_of(settings(source, train=train, test=train, classes=["a", "b", ""]))) == (
        "data.classes: name 3 of 3 is empty; take it out, or give it a name"
    )


# folders


def test_folders_of_test_are_matched_by_name_however_accents_are_written(tmp_path):
    train = write_folder(tmp_path / "train", {DECOMPOSED: 3, "zoo": 2, "bar": 2})
    test = write_folder(tmp_path / "test", {"zoo": 1, COMPOSED: 2})
    found = load(settings("folder", train=train, test=test))
    assert found.classes == ("bar", COMPOSED, "zoo")
    assert found.counts() == [2, 3, 2]
    assert np.bincount(found.splits["test"].labels_N).tolist() == [0, 2, 1]


def test_two_folders_of_one_class_are_refused(tmp_path):
    train = write_folder(tmp_path / "train", {DECOMPOSED: 3, COMPOSED: 2, "bar": 2})
    assert str(error_of(settings("folder", train=train))) == (
        f"data.train {train}: the folders {DECOMPOSED!r} and {COMPOSED!r} mean one class, {COMPOSED!r}: their accents are "
        "written in two ways; put their images into one"
    )


def test_folders_whose_names_are_not_utf_8_are_classes(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    train = write_folder(tmp_path / "train", {name: 3, "b": 2})
    found = load(settings("folder", train=train, test=train))
    assert found.classes == ("b", "caf\\udce9")
    assert found.splits["train"].sample_ids[2] == found.splits["train"].paths[2] == "caf\\udce9/0.png"
    found.splits["train"].images.prepare()


def test_folders_named_by_numbers_keep_imagefolder_s_order_and_it_is_said(tmp_path, capsys):
    train = write_folder(tmp_path / "train", {"1": 2, "2": 2, "10": 2})
    assert load(settings("folder", train=train, test=train)).classes == ("1", "10", "2")
    assert (
        f"data.train {train}: folders named by numbers are classes in the order of their characters (1, 10, 2), as in "
        "torchvision's ImageFolder; for another order set data.classes\n"
    ) in capsys.readouterr().err
    assert load(settings("folder", train=train, test=train, classes=["1", "2", "10"])).classes == ("1", "2", "10")
    assert "ImageFolder" not in capsys.readouterr().err


# lists


def test_lists_that_number_the_same_folders_differently_are_refused(tmp_path):
    train = write_list(tmp_path, ["cat/1.png 0", "dog/2.png 1"])
    test = write_list(tmp_path, ["dog/3.png 0", "cat/4.png 1"], "test.txt")
    assert str(error_of(settings("list", train=train, test=test))) == (
        f"data.test {test}: dog/3.png: has the label 0, where the folder 'dog' is class 1 by {train} (2 such lines); number "
        "the classes alike"
    )
    assert str(error_of(settings("list", train=train, val=test, test=train))).startswith(
        f"data.val {test}: dog/3.png: "
    )
    assert str(error_of(settings("list", train=train, test=train, classes=["dog", "cat"]))) == (
        f"data.train {train}: cat/1.png: has the label 0, where the folder 'cat' is class 1 by data.classes (2 such lines); "
        "number the classes alike"
    )
    assert load(settings("list", train=train, test=train, classes=["n02", "n01"])).classes == ("n02", "n01")


def test_labels_that_are_only_numbers_are_said_to_be_unchecked(tmp_path, capsys):
    train = write_list(tmp_path, ["x/1.png 0", "y/2.png 0", "x/3.png 1"])
    other = write_list(tmp_path, ["x/4.png 1"], "test.txt")
    load(settings("list", train=train, test=other))
    said = f"data.test {other}: its labels are numbers only; whether they number the classes as {train} does cannot be checked\n"
    assert said in capsys.readouterr().err
    apart = write_list(tmp_path, ["cat/1.png 0", "dog/2.png 1"], "apart.txt")
    load(settings("list", train=apart, test=apart))
    assert "numbers only" not in capsys.readouterr().err
    load(settings("list", train=apart, test=other))
    assert "numbers only" in capsys.readouterr().err


# Parquet


def test_parquet_files_with_their_own_order_of_names_are_matched_by_name(tmp_path):
    train = write_parquet(tmp_path / "p" / "train-0.parquet", [0, 1, 2], names=["a", "b", "c"])
    write_parquet(tmp_path / "p" / "train-1.parquet", [0, 0, 2], names=["c", "b", "a"])
    test = write_parquet(tmp_path / "test.parquet", [0, 1, 2], names=["b", "c", "a"])
    found = load(settings("parquet", train=str(tmp_path / "p"), test=test, val=test))
    assert found.classes == ("a", "b", "c")
    assert found.splits["train"].labels_N.tolist() == [0, 1, 2, 2, 2, 0]
    assert found.splits["test"].labels_N.tolist() == found.splits["val"].labels_N.tolist() == [1, 2, 0]
    named = load(settings("parquet", train=train, test=test, classes=["c", "a", "b"]))
    assert named.splits["train"].labels_N.tolist() == [1, 2, 0]
    assert named.splits["test"].labels_N.tolist() == [2, 0, 1]
    renamed = load(settings("parquet", train=train, test=test, classes=["x", "y", "z"]))
    assert renamed.classes == ("x", "y", "z")
    assert renamed.splits["test"].labels_N.tolist() == [1, 2, 0]


def test_parquet_classes_that_train_does_not_have(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", [0, 1], names=["a", "b"])
    test = write_parquet(tmp_path / "test.parquet", [0, 1, 2], names=["c", "b", "a"])
    assert str(error_of(settings("parquet", train=train, test=test))) == (
        f"data.test {test}: wanted the 2 classes of the train split, found c too; leave those rows out, or name the classes alike"
    )
    unused = write_parquet(tmp_path / "unused.parquet", [1, 2], names=["c", "b", "a"])
    assert load(settings("parquet", train=train, test=unused)).splits["test"].labels_N.tolist() == [1, 0]


def test_parquet_text_of_numbers_is_in_the_order_of_numbers(tmp_path):
    labels = [str(number) for number in range(12)] * 2
    train = write_parquet(tmp_path / "train.parquet", labels)
    found = load(settings("parquet", train=train, test=train))
    assert found.classes == tuple(str(number) for number in range(12))
    assert found.splits["train"].labels_N.tolist() == [*range(12), *range(12)]


def test_parquet_text_is_spelled_alike_and_never_empty(tmp_path):
    train = write_parquet(tmp_path / "train.parquet", [COMPOSED, DECOMPOSED, "b"])
    assert load(settings("parquet", train=train, test=train)).counts() == [1, 2]
    empty = write_parquet(tmp_path / "empty.parquet", ["a", " ", "b"])
    assert str(error_of(settings("parquet", train=empty))) == (
        f"data.train {empty}: row 1: wanted a label in column 'label', found none"
    )


def test_parquet_numbers_are_unchecked_without_names_and_refused_beside_text(tmp_path, capsys):
    train = write_parquet(tmp_path / "train.parquet", [0, 1])
    test = write_parquet(tmp_path / "test.parquet", [1, 0], first=5)
    load(settings("parquet", train=train, test=test))
    said = f"data.test {test}: its labels are numbers only; whether they number the classes as other files do cannot be checked\n"
    assert said in capsys.readouterr().err
    named = write_parquet(tmp_path / "named.parquet", [0, 1], names=["a", "b"])
    load(settings("parquet", train=named, test=named))
    assert "numbers only" not in capsys.readouterr().err
    text = write_parquet(tmp_path / "text.parquet", ["a", "b"])
    assert str(error_of(settings("parquet", train=text, test=test))) == (
        f"data.test {test}: column 'label': integers, where the train split has text; write names, or number the classes "
        "with data.classes"
    )
    assert load(settings("parquet", train=text, test=test, classes=["b", "a"])).splits["train"].labels_N.tolist() == [
        1,
        0,
    ]


@pytest.mark.parametrize("source", ["folder", "list", "parquet"])
def test_val_has_the_classes_of_train_and_a_missing_one_is_one_line(tmp_path, source):
    train, val = {
        "folder": lambda: (
            write_folder(tmp_path / "train", {"a": 2, "b": 2, "c": 1}),
            write_folder(tmp_path / "val", {"c": 2, "a": 1}),
        ),
        "list": lambda: (
            write_list(tmp_path, ["a/1.png 0", "b/2.png 1", "c/3.png 2"]),
            write_list(tmp_path, ["a/4.png 0", "c/5.png 2", "c/6.png 2"], "val.txt"),
        ),
        "parquet": lambda: (
            write_parquet(tmp_path / "train.parquet", ["a", "b", "c"]),
            write_parquet(tmp_path / "val.parquet", ["a", "c", "c"]),
        ),
    }[source]()
    found = load(settings(source, train=train, val=val, test=train))
    assert found.classes == ("a", "b", "c")
    assert sorted(found.splits["val"].labels_N.tolist()) == [0, 2, 2]
    missing = error_of(settings(source, train=train, val=f"{tmp_path}/nowhere", test=train))
    assert str(missing).startswith(f"data.val {tmp_path}/nowhere: ")


def test_sources_with_their_own_splits_have_no_val():
    assert str(error_of(settings("digits", val="x"))) == (
        "data.val x: the source digits brings its own splits, none of them for validation; leave data.val empty, or take "
        "another data.source"
    )
