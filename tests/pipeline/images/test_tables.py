"""Tables of paths and labels: whatever a file's format, separator and names, the same images are the same samples."""

import hashlib
import json

import numpy as np
import polars as pl
import pytest

from pipeline.images.dataset import load
from pipeline.images.sources import load_source
from pipeline.progress import collected
from tests.support.toy_images import error_of, png, settings, write_folder

ROWS = [("dog/0.png", "dog"), ("cat/1.png", "cat"), ("cat/0.png", "cat"), ("dog/1.png", "dog"), ("cat/2.png", "cat")]


def write_rows(path, rows, header=("path", "label")):
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    if path.suffix == ".parquet":
        pl.DataFrame(columns).write_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    else:
        separator = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(separator.join(map(str, row)) + "\n" for row in [header, *rows]))
    return str(path)


@pytest.fixture
def root(tmp_path):
    write_folder(tmp_path / "all", {"cat": 3, "dog": 2})
    return tmp_path / "all"


def identity(dataset, split="train"):
    found = dataset.splits[split]
    return dataset.classes, found.samples_digest(), found.content_digest()


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet", "t.txt"])
def test_a_table_of_a_folder_is_the_folder(root, name):
    table = write_rows(root / name, ROWS)
    as_folder = load(settings("folder", train=str(root), test=str(root)))
    assert identity(load(settings("table", train=table, test=table))) == identity(as_folder)
    assert as_folder.splits["train"].sample_ids == ["cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png"]


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", " "])
def test_separators_and_missing_headers_are_found(root, separator):
    table = root / "t.txt"
    table.write_text("".join(f"{path}{separator}{label}\n" for path, label in ROWS))
    found = load(settings("table", train=str(table), test=str(table)))
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))


def test_a_split_column_and_paths_with_a_common_folder(root, tmp_path):
    rows = [(f"all/{path}", label, "train") for path, label in ROWS]
    rows += [("all/cat/0.png", "cat", "Validation"), ("all/dog/0.png", "dog", "TEST")]
    table = write_rows(tmp_path / "t.csv", rows, ("file_name", "species", "subset"))
    found = load(settings("table", train=table))
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 5, "val": 1, "test": 1}
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))


@pytest.mark.parametrize(
    ("written", "classes", "labels"),
    [
        ([1, 1, 3, 3, 10], ("1", "3", "10"), [0, 0, 1, 1, 2]),
        (["01", "01", "2", "2", "10"], ("1", "2", "10"), [0, 0, 1, 1, 2]),
        ([0.0, 1.0, 0.0, 1.0, 0.0], ("0", "1"), [0, 0, 0, 1, 1]),
        ([True, False, True, False, True], ("0", "1"), [0, 0, 1, 1, 1]),
        ([[0, 1], [1, 0], [0, 1], [1, 0], [1, 0]], ("0", "1"), [0, 0, 0, 1, 1]),
        (["b ", " a", "b", "a", "a"], ("a", "b"), [0, 0, 0, 1, 1]),
    ],
)
def test_labels_of_every_kind(root, written, classes, labels):
    paths = [path for path, _ in ROWS]
    pl.DataFrame({"path": paths, "label": written}, strict=False).write_parquet(root / "t.parquet")
    found = load(settings("table", train=str(root / "t.parquet"), test=str(root / "t.parquet")))
    assert found.classes == classes
    assert found.splits["train"].labels_N.tolist() == labels
    wanted = dict(zip(paths, written, strict=True))
    for sample, label in zip(found.splits["train"].sample_ids, found.splits["train"].labels_N, strict=True):
        value = wanted[sample].index(1) if isinstance(wanted[sample], list) else wanted[sample]
        is_number = classes[0].isdigit()
        assert float(value) == float(classes[label]) if is_number else value.strip() == classes[label]


def test_one_hot_columns_name_the_classes_and_a_name_without_suffix_is_found(root):
    rows = [("dog/0", 0, 1), ("cat/1", 1, 0), ("cat/0", 1, 0), ("dog/1", 0, 1), ("cat/2", 1, 0)]
    table = write_rows(root / "t.csv", rows, ("image", "cat", "dog"))
    found = load(settings("table", train=table, test=table))
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))


def test_classes_have_one_order_over_all_splits(root):
    train = write_rows(root / "a.csv", [row for row in ROWS if row[0] != "cat/2.png"])
    test = write_rows(root / "b.csv", [("dog/1.png", "dog"), ("cat/2.png", "cat")])
    found = load(settings("table", train=train, test=test))
    assert found.splits["test"].labels_N.tolist() == [0, 1]
    assert found.classes == ("cat", "dog")


def test_labels_from_one_are_the_named_classes(root):
    table = write_rows(root / "t.csv", [(path, 1 + (label == "dog")) for path, label in ROWS])
    found = load(settings("table", train=table, test=table, classes=["cat", "dog"]))
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))


def test_absolute_paths_under_the_root_are_taken(root):
    table = write_rows(root / "t.csv", [(root / path, label) for path, label in ROWS])
    assert load(settings("table", train=table, test=table)).splits["train"].sample_ids[0] == "cat/0.png"


def test_a_folder_with_metadata_is_a_table(root):
    write_rows(root / "metadata.jsonl", ROWS, ("file_name", "label"))
    found = load(settings("table", train=str(root), test=str(root)))
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))


def wrong(root, text, name="t.csv", **data):
    (root / name).write_text(text)
    return str(error_of(settings("table", train=str(root / name), **data))).replace(str(root), "ROOT")


def test_what_cannot_be_told_is_one_line(root):
    assert wrong(root, "a,b,c\ncat/0.png,1,2\ncat/1.png,3,3\n") == (
        "data.train ROOT/t.csv: wanted a column of labels, found a, b, c; name it with --set data.label_column=NAME"
    )
    assert wrong(root, "a,label\nx,1\ny,3\n") == (
        "data.train ROOT/t.csv: wanted a column of paths of images, found a, label; name it with --set data.image_column=NAME"
    )
    assert wrong(root, "path,label\ncat/0.png,cat\n", label_column="kind") == (
        "data.train ROOT/t.csv: no column 'kind', found path, label; name it with --set data.label_column=NAME"
    )
    assert wrong(root, "one\ntwo\n") == (
        "data.train ROOT/t.csv: wanted columns separated by comma, tab, semicolon, bar, space, found no such separator that "
        "gives every line as many columns; line 1 is 'one'"
    )
    assert wrong(root, "path,label\ncat/0.png,cat\ncat/1.png,\n") == (
        "data.train ROOT/t.csv: column 'label': row 1: wanted a label, found none (1 such rows); give it one, or take the row out"
    )
    assert wrong(root, "path,label\n../0.png,cat\ncat/1.png,a\n") == (
        "data.train ROOT/t.csv: row 0: wanted a path under ROOT, found '../0.png'; write the paths without `..` or a leading "
        "`/`, or set data.root to the folder they start from"
    )
    assert wrong(root, "path,label\ncat/0.png,cat\ncat/9.png,cat\n") == (
        "1 of 2 listed files are missing under ROOT: cat/9.png; check data.root"
    )
    assert wrong(root, "path,label\ncat/0.png,cat\ncat/0.png,dog\n") == (
        "data.train ROOT/t.csv: column 'label': cat/0.png is listed twice; keep one of the rows: an image has one label"
    )
    assert wrong(root, "path,label,split\ncat/0.png,cat,train\ncat/1.png,cat,later\n") == (
        "data.train ROOT/t.csv: column 'split': wanted train, val or test in each row, found 'later'; correct it, or rename "
        "the column where it is none of splits"
    )
    assert wrong(root, "path,label\ncat/0.png,-1\ncat/1.png,1\n") == (
        "data.train ROOT/t.csv: column 'label': row 0: wanted a label of at least 0, found -1 (1 such rows), which often marks "
        "images without a label; leave those rows out"
    )


def test_names_in_one_split_and_numbers_in_another_are_refused(root):
    train = write_rows(root / "a.csv", ROWS)
    test = write_rows(root / "b.csv", [("cat/0.png", 0), ("dog/0.png", 1)])
    assert str(error_of(settings("table", train=train, test=test))).replace(str(root), "ROOT") == (
        "data.test ROOT/b.csv: column 'label': its labels and those of data.train are of two kinds, numbers and names; write "
        "names in both, or numbers in both"
    )


def test_an_image_of_a_table_is_the_file(root):
    table = write_rows(root / "t.csv", ROWS)
    found = load(settings("table", train=table, test=table))
    assert found.splits["train"].digests[0] == hashlib.sha256(png(0)).digest()
    assert np.bincount(found.splits["train"].labels_N).tolist() == [3, 2]


def as_coco(rows, categories):
    """iNaturalist's JSON of rows (path, category)."""
    images = [{"id": 10 + number, "file_name": path} for number, (path, _) in enumerate(rows)]
    pairs = [{"id": number, "image_id": 10 + number, "category_id": label} for number, (_, label) in enumerate(rows)]
    named = [{"id": number, "name": name} for number, name in categories.items()]
    return json.dumps({"images": images, "annotations": pairs[::-1], "categories": named})


def test_annotations_of_inaturalist_are_a_table(root):
    numbers = {"cat": 7, "dog": 3}
    (root / "train2018.json").write_text(as_coco([(path, numbers[name]) for path, name in ROWS], {7: "cat", 3: "dog"}))
    found = load(settings("table", train=str(root / "train2018.json"), test=str(root / "train2018.json")))
    assert identity(found) == identity(load(settings("folder", train=str(root), test=str(root))))
    assert wrong(root, as_coco([("cat/0.png", 1), ("cat/0.png", 1)], {}), "a.json").endswith(
        "cat/0.png is listed twice; keep one of the rows: an image has one label"
    )
    assert wrong(root, '{"images": [{"id": 1, "file_name": "x"}], "annotations": []}', "a.json") == (
        "data.train ROOT/a.json: image 1: wanted one annotation, found 0; an image has one label"
    )
    assert wrong(root, "[]", "a.json").startswith(
        "data.train ROOT/a.json: wanted JSON with images (id, file_name) and annotations (image_id, category_id), found "
    )


def test_a_split_column_holds_beside_other_tables_and_what_they_name_is_left_out(root):
    rows = [(path, label, "train") for path, label in ROWS]
    rows += [("cat/0.png", "cat", "test"), ("dog/0.png", "dog", "test"), ("dog/1.png", "dog", "val")]
    both = write_rows(root / "all.csv", rows, ("path", "label", "split"))
    val = write_rows(root / "val.csv", [("cat/1.png", "cat"), ("dog/1.png", "dog")])

    def sizes(**data):
        with collected() as notes:
            splits = load_source(settings("table", train=both, **data).data).splits
        return {name: len(raw.labels_N) for name, raw in splits.items()}, [
            text.replace(str(root), "ROOT") for text in notes
        ]

    assert sizes() == ({"train": 5, "val": 1, "test": 2}, [])
    assert sizes(val=val) == (
        {"train": 5, "test": 2, "val": 2},
        ["data.train ROOT/all.csv: column 'split': rows of val (1) are left out; data.val names that split"],
    )
    assert sizes(test=val)[0] == {"train": 5, "val": 1, "test": 2}
    assert sizes(val=both, test=both) == (
        {"train": 5, "val": 1, "test": 2},
        [
            "data.train ROOT/all.csv: column 'split': rows of val (1), test (2) are left out; data.val and data.test name those splits",
            "data.val ROOT/all.csv: column 'split': rows of train (5), test (2) are left out; data.val names the split val",
            "data.test ROOT/all.csv: column 'split': rows of train (5), val (1) are left out; data.test names the split test",
        ],
    )


def test_a_table_of_one_other_split_is_what_its_setting_says_and_one_of_several_is_refused(root):
    table = write_rows(root / "a.csv", ROWS)
    val = write_rows(root / "b.csv", [("cat/1.png", "cat", "val")], ("path", "label", "split"))
    assert len(load_source(settings("table", train=table, test=val).data).splits["test"].labels_N) == 1
    rows = [("cat/1.png", "cat", "val"), ("cat/2.png", "cat", "train")]
    several = write_rows(root / "c.csv", rows, ("path", "label", "split"))
    assert str(error_of(settings("table", train=table, test=several))).replace(str(root), "ROOT") == (
        "data.test ROOT/c.csv: column 'split': wanted rows of test, found rows of train and val alone; correct the column, or "
        "name another table"
    )
