"""Reading a linear classifier as other programs save it: weight (C, D) and bias (C,), rows in the order of the classes."""

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheInvalid
from cache.exchange.classes import Named, named_array, translation
from cache.exchange.gather import Gathered, Part
from cache.exchange.labels import Labelled
from cache.exchange.source import SourceArray
from cache.exchange.texts import shown

CLEAR = 3.0
"""How many standard errors better a square weight must do transposed, to be taken as the transpose."""


def read_classifier(
    gathered: Gathered, labelled: Labelled, width: int, notes: list[str]
) -> dict[str, NDArray[np.float32]] | None:
    """Weight (C, D) and bias (C,) for D = `width` features. None where no weight is given; without a bias it is zeros.

    Rows are matched to the classes by name where names stand beside the weight. For two classes one row of weights is
    enough, as logistic regression has it. The weight may be the transpose, (D, C). `notes` gets a line on each of these.
    Raises CacheInvalid for other shapes, and where nothing says which row belongs to which class.
    """
    if "weight" not in gathered.classifier:
        if "bias" in gathered.classifier:
            raise CacheInvalid(f"{gathered.classifier['bias'].where}: a bias without a weight; give both, or neither")
        return None
    array = gathered.classifier["weight"]
    weight, bias = _finite(array), _finite(gathered.classifier["bias"]) if "bias" in gathered.classifier else None
    names = _names(gathered)
    if names is None and labelled.text and not labelled.given:
        raise CacheInvalid(
            f"{array.where}: the labels are names, and nothing says which row of the weight belongs to which class; give the "
            "class names in the order of the rows with --classes FILE"
        )
    classes = labelled.classes if names is None else names
    count = len(classes.names)
    weight_CD = _oriented(array, weight, bias, count, width, notes)
    bias_C = np.zeros(len(weight_CD), np.float32) if bias is None else bias.reshape(-1)
    if len(weight_CD) == 1 and count == 2 and bias_C.shape == (1,):
        notes.append(
            f"{array.where}: one row of weights for two classes, as logistic regression has: class 0 gets zeros"
        )
        weight_CD, bias_C = (np.concatenate([np.zeros_like(part), part]) for part in (weight_CD, bias_C))
    if weight_CD.shape != (count, width) or bias_C.shape != (count,):
        raise CacheInvalid(
            f"{array.where}: wanted weight {(count, width)} and bias {(count,)}, one row a class, "
            f"found {weight.shape} and {'none' if bias is None else bias.shape}"
        )
    if names is not None and names != labelled.classes:
        row_C = translation(labelled.classes, names)
        if (row_C < 0).any():
            name = labelled.classes.names[int((row_C < 0).argmax())]
            raise CacheInvalid(f"{array.where}: no row for class {shown(name)}; {names.where} names {count} others")
        weight_CD, bias_C = weight_CD[row_C], bias_C[row_C]
        if not np.array_equal(row_C, np.arange(count)):
            notes.append(f"{names.where}: the classifier's rows are matched to the classes by name")
    if weight.shape == (count, width) and count == width:
        weight_CD = _square(array.where, gathered.parts["train"], labelled.labels["train"], weight_CD, bias_C, notes)
    return {"weight": np.ascontiguousarray(weight_CD), "bias": bias_C}


def _names(gathered: Gathered) -> Named | None:
    """The class names of the weight's rows. None where there are none, or only the numbers 0, 1, … in order."""
    if gathered.classifier_names is None:
        return None
    names = named_array(gathered.classifier_names)
    numbers = np.dtype(gathered.classifier_names.dtype).kind in "iu"
    return None if numbers and names.names == tuple(map(str, range(len(names.names)))) else names


def _finite(array: SourceArray) -> NDArray[np.float32]:
    """The array as float32; CacheInvalid where it holds anything but finite floats."""
    values = array.read()
    if values.dtype.kind != "f" or not np.isfinite(values.astype(np.float32)).all():
        raise CacheInvalid(f"{array.where}: wanted a classifier of finite floating point numbers")
    return values.astype(np.float32)


def _oriented(
    array: SourceArray,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32] | None,
    count: int,
    width: int,
    notes: list[str],
) -> NDArray[np.float32]:
    """The weight with a row for each of `count` classes: as it is, or transposed where only the transpose fits."""
    if weight.shape == (width,) and count == 2:
        return weight[None]
    one_row = count == 2 and (bias is None or bias.size == 1)
    fitting = {(count, width)} | ({(1, width)} if one_row else set())
    if weight.shape not in fitting and weight.shape[::-1] in fitting:
        notes.append(f"{array.where}: {weight.shape} is (features, classes); it is transposed")
        return weight.T
    return weight


def _square(
    where: str,
    train: Part,
    labels_N: NDArray[np.int64],
    weight_CD: NDArray[np.float32],
    bias_C: NDArray[np.float32],
    notes: list[str],
) -> NDArray[np.float32]:
    """A square weight, transposed if it then classifies clearly more training rows correctly; else as it is.

    The shape does not tell which of its axes is the classes.
    """
    rows, right, right_transposed, differing = 0, 0, 0, 0
    start = 0
    for block in train.views["clean"].blocks():
        block_BD = block if train.rows_N is None else block[_inside(train.rows_N, start, len(block))]
        start += len(block)
        labels_B = labels_N[rows : rows + len(block_BD)]
        rows += len(block_BD)
        features_BD = block_BD.astype(np.float32)
        as_is_B = (features_BD @ weight_CD.T + bias_C).argmax(axis=1) == labels_B
        turned_B = (features_BD @ weight_CD + bias_C).argmax(axis=1) == labels_B
        right += int(as_is_B.sum())
        right_transposed += int(turned_B.sum())
        differing += int((as_is_B != turned_B).sum())
    turned = right_transposed - right > CLEAR * np.sqrt(max(differing, 1))
    notes.append(
        f"{where}: {weight_CD.shape} may be (classes, features) or its transpose; as it is it is right for "
        f"{100 * right / rows:.1f} % of the training rows, transposed for {100 * right_transposed / rows:.1f} %: "
        f"taken {'transposed' if turned else 'as it is'}"
    )
    return weight_CD.T if turned else weight_CD


def _inside(rows_N: NDArray[np.int64], start: int, size: int) -> NDArray[np.int64]:
    """The rows of a block of `size` rows that are among the ascending `rows_N`, counted from the block's first, `start`."""
    low, high = np.searchsorted(rows_N, (start, start + size))
    return rows_N[low:high] - start
