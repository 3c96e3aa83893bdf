"""Classifiers as other programs save them: which row belongs to which class, and which axis is which."""

from pathlib import Path

import numpy as np
import pytest

from cache import CacheInvalid
from cache.exchange.contents import Dataset, read_dataset
from cache.exchange.request import Request

D = 3


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def read(source: Path, **rest) -> Dataset:
    return read_dataset(Request((("", source),), **rest))


def refused(source: Path, **rest) -> str:
    with pytest.raises(CacheInvalid) as caught:
        read(source, **rest)
    return str(caught.value)


def rows(classes: int, width: int = D, count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features (N, D), a weight (C, D), and as labels (N,) what the weight says of the features."""
    draw = np.random.default_rng(classes)
    features = draw.normal(size=(count, width)).astype(np.float32)
    weight = draw.normal(size=(classes, width)).astype(np.float32)
    return features, weight, (features @ weight.T).argmax(axis=1)


def test_text_labels_want_the_order_of_the_classifier_s_rows(tmp_path):
    features, weight, labels = rows(4)
    names = np.array(["owl", "cat", "fox", "dog"])
    source = npz(tmp_path / "a.npz", x=features, y=names[labels])
    bare = npz(tmp_path / "bare.npz", weight=weight)
    assert refused(source, classifier=bare) == (
        f"{bare}[weight]: the labels are names, and nothing says which row of the weight belongs to which class; give the "
        "class names in the order of the rows with --classes FILE"
    )
    (tmp_path / "c.txt").write_text("\n".join(names))
    ordered = read(source, classifier=bare, classes=tmp_path / "c.txt")
    own = read(source, classifier=npz(tmp_path / "own.npz", weight=weight, classes=names))
    assert (ordered.classes, own.classes) == (tuple(names), ("cat", "dog", "fox", "owl"))
    assert own.notes[-1] == f"{tmp_path}/own.npz[classes]: the classifier's rows are matched to the classes by name"
    for dataset in (ordered, own):
        found = (features @ dataset.classifier["weight"].T).argmax(axis=1)
        np.testing.assert_array_equal(found, dataset.splits["train"].labels_N)


def test_a_classifier_of_other_classes(tmp_path):
    features, weight, _ = rows(2)
    source = npz(tmp_path / "a.npz", x=features, y=np.array(["owl", "cat"] * 20))
    head = npz(tmp_path / "head.npz", weight=weight, classes=np.array(["owl", "fox"]))
    assert refused(source, classifier=head) == (
        f"{head}[weight]: no row for class 'cat'; {head}[classes] names 2 others"
    )


def test_more_rows_than_classes_are_chosen_by_name(tmp_path):
    features, weight, _ = rows(5)
    source = npz(tmp_path / "a.npz", x=features, y=np.array(["e", "b"] * 20))
    head = npz(tmp_path / "head.npz", weight=weight, bias=np.arange(5.0), classes=np.array(list("abcde")))
    dataset = read(source, classifier=head)
    np.testing.assert_array_equal(dataset.classifier["weight"], weight[[1, 4]])
    assert dataset.classifier["bias"].tolist() == [1, 4]


@pytest.mark.parametrize("shape", [(1, D), (D, 1), (D,)])
@pytest.mark.parametrize("bias", [None, (1,), ()])
def test_one_row_for_two_classes(tmp_path, shape, bias):
    features, weight, _ = rows(1)
    scalar = np.float32(0.25)
    arrays = {"weight": weight.reshape(shape)} | ({} if bias is None else {"bias": np.full(bias, scalar)})
    logit_N = features @ weight[0] + (0 if bias is None else scalar)
    source = npz(tmp_path / "a.npz", x=features, y=(logit_N > 0).astype(int), **arrays)
    dataset = read(source)
    assert dataset.classifier["weight"].tolist() == [[0] * D, weight[0].tolist()]
    assert dataset.classifier["bias"].tolist() == [0, 0 if bias is None else 0.25]
    assert dataset.notes[-1] == (
        f"{source}[weight]: one row of weights for two classes, as logistic regression has: class 0 gets zeros"
    )


def test_a_transposed_weight_is_turned(tmp_path):
    features, weight, labels = rows(5)
    source = npz(tmp_path / "a.npz", x=features, y=labels, weight=weight.T, bias=np.zeros(5))
    dataset = read(source)
    np.testing.assert_array_equal(dataset.classifier["weight"], weight)
    assert dataset.notes[-1] == f"{source}[weight]: (3, 5) is (features, classes); it is transposed"
    assert read(npz(tmp_path / "b.npz", x=features, y=labels, weight=weight)).notes == (
        f"train: features {tmp_path}/b.npz[x] (40, 3), labels {tmp_path}/b.npz[y]",
    )


def test_the_names_that_scikit_learn_and_keras_have(tmp_path):
    features, weight, labels = rows(5, count=400)
    assert set(labels.tolist()) == set(range(5))
    names = np.array(list("edcba"))
    source = npz(tmp_path / "a.npz", x=features, y=names[labels])
    scikit = npz(tmp_path / "b.npz", coef_=weight, intercept_=np.zeros(5), classes_=names)
    keras = npz(tmp_path / "c.npz", kernel=weight.T, bias=np.zeros(5), classes=names)
    for path in (scikit, keras):
        np.testing.assert_array_equal(read(source, classifier=path).classifier["weight"], weight[::-1])
    numbers = npz(tmp_path / "e.npz", coef_=weight, intercept_=np.zeros(5), classes_=np.arange(5), extra=weight)
    dataset = read(npz(tmp_path / "f.npz", x=features, y=labels, classes=names), classifier=numbers)
    np.testing.assert_array_equal(dataset.classifier["weight"], weight)
    assert dataset.notes == (f"train: features {tmp_path}/f.npz[x] (400, 3), labels {tmp_path}/f.npz[y]",)
    alone = npz(tmp_path / "d.npz", bias=np.zeros(5))
    assert refused(source, classifier=alone) == f"{alone}[bias]: a bias without a weight; give both, or neither"


@pytest.mark.parametrize("turned", [False, True])
def test_a_square_weight_is_what_is_right_for_the_training_rows(tmp_path, turned):
    features, weight, labels = rows(4, width=4, count=200)
    source = npz(tmp_path / "a.npz", x=features, y=labels, weight=weight.T if turned else weight)
    dataset = read(source)
    np.testing.assert_array_equal(dataset.classifier["weight"], weight)
    other = 100 * np.mean((features @ weight).argmax(axis=1) == labels)
    figures = (other, 100.0) if turned else (100.0, other)
    assert dataset.notes[-1] == (
        f"{source}[weight]: (4, 4) may be (classes, features) or its transpose; as it is it is right for {figures[0]:.1f} % "
        f"of the training rows, transposed for {figures[1]:.1f} %: taken {'transposed' if turned else 'as it is'}"
    )


def test_a_square_weight_that_is_right_for_nothing_stays_as_it_is(tmp_path):
    features, weight, _ = rows(4, width=4, count=200)
    dataset = read(npz(tmp_path / "a.npz", x=features, y=np.random.default_rng(0).integers(4, size=200), weight=weight))
    np.testing.assert_array_equal(dataset.classifier["weight"], weight)
    assert dataset.notes[-1].endswith("taken as it is")
