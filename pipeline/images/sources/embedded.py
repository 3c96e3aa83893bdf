"""Data sets that a library brings: scikit-learn's handwritten digits, torchvision's CIFAR."""

import warnings
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.images.decoding import Item
from pipeline.images.sources.cifar_binary import BINARY, binary_folder, read_binary
from pipeline.images.sources.class_names import checked
from pipeline.images.sources.source import Raw, Source, expand
from pipeline.longtail import Rows
from pipeline.settings.stage1 import Data


def load_digits(data: Data) -> Source:
    """1,797 handwritten digits, 8 x 8 pixels of 0 to 16, grey; one split, so a test split is held out of it."""
    from sklearn.datasets import load_digits as sklearn_digits

    _refuse_val(data)
    digits = sklearn_digits()
    pixels_NSS = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    train = _raw("digits", np.repeat(pixels_NSS[..., None], 3, axis=3), digits.target)
    return Source(
        checked("data.classes", data.classes) or tuple(str(name) for name in digits.target_names), {"train": train}
    )


def load_cifar(name: str, data: Data) -> Source:
    """CIFAR10 or CIFAR100 from the folder `data.train`: the binary version where it is there, else torchvision's files.

    torchvision's are downloaded into the folder if `data.download`. They are pickled; they are read after their md5 showed
    that they are the published ones, and are no stranger's. Raises DataError where the files are not there, not whole, or
    cannot be downloaded.
    """
    _refuse_val(data)
    root = expand("data.train", data.train)
    named = checked("data.classes", data.classes)
    if folder := binary_folder(name, root):
        published, splits = read_binary(name, folder)
        return Source(named or published, {split: _raw(split, *arrays) for split, arrays in splits.items()})
    from torchvision import datasets

    with warnings.catch_warnings():
        # torchvision reads the published files, pickled by an old numpy; their md5 is checked first.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        try:
            sets = {
                split: getattr(datasets, name)(root, train=split == "train", download=data.download)
                for split in ("train", "test")
            }
        except (RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0].strip().rstrip(".")
            raise DataError(
                f"data.train {root}: wanted the folder of torchvision's {name} ({reason}); "
                f"get it with --set data.download=true, unpack its binary version there ({BINARY[name].folder}), "
                "or read Parquet files with --set data.source=parquet"
            ) from None
    classes = named or tuple(sets["train"].classes)
    return Source(classes, {split: _raw(split, images.data, images.targets) for split, images in sets.items()})


def _refuse_val(data: Data) -> None:
    if data.val:
        raise ConfigError(
            f"data.val {data.val}: the source {data.source} brings its own splits, none of them for validation; leave "
            "data.val empty, or take another data.source"
        )


def _raw(name: str, pixels_NSS3: NDArray[np.uint8], labels_N: Sequence[int] | Rows) -> Raw:
    ids = [f"{name}#{row}" for row in range(len(pixels_NSS3))]
    return Raw(ids, np.asarray(labels_N, dtype=np.int64), partial(_take, pixels_NSS3))


def _take(pixels_NSS3: NDArray[np.uint8], rows: Rows) -> list[Item]:
    return list(pixels_NSS3[rows])
