"""CIFAR's binary version: a file of rows of a fixed length, which needs no program to be read safely.

A row is the label and 3,072 bytes, the red, green and blue planes of 32 x 32 pixels. CIFAR-100 has the coarse label before
the fine one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.images.sources.source import check_labels
from pipeline.longtail import Rows

PLANES = (3, 32, 32)
PIXEL_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class Binary:
    """How one of the two is published: its folder, the files of each split, the names, and bytes of labels before the pixels."""

    folder: str
    splits: dict[str, tuple[str, ...]]
    names: str
    label_bytes: int


BINARY = {
    "CIFAR10": Binary(
        "cifar-10-batches-bin",
        {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
        "batches.meta.txt",
        1,
    ),
    "CIFAR100": Binary("cifar-100-binary", {"train": ("train.bin",), "test": ("test.bin",)}, "fine_label_names.txt", 2),
}


def binary_folder(name: str, root: Path) -> Path | None:
    """The folder of the binary version in `root`, or `root` itself; None where it is not there."""
    folder = BINARY[name].folder
    return next((place for place in (root / folder, root) if place.name == folder and place.is_dir()), None)


def read_binary(name: str, folder: Path) -> tuple[tuple[str, ...], dict[str, tuple[NDArray[np.uint8], Rows]]]:
    """Class names, and for each split the pixels (N, 32, 32, 3) and labels (N,), in the order of the files.

    Raises DataError for a file that is missing or no such file.
    """
    published = BINARY[name]
    classes = tuple(_content(folder / published.names).decode("utf-8", "replace").split())
    splits = {}
    for split, files in published.splits.items():
        rows = np.concatenate([_rows(folder / file, published.label_bytes) for file in files])
        labels_N = rows[:, published.label_bytes - 1].astype(np.int64)
        check_labels("data.train", folder, labels_N, classes)
        pixels_NSS3 = rows[:, published.label_bytes :].reshape(-1, *PLANES).transpose(0, 2, 3, 1)
        splits[split] = (np.ascontiguousarray(pixels_NSS3), labels_N)
    return classes, splits


def _rows(file: Path, label_bytes: int) -> NDArray[np.uint8]:
    """The rows of a file, (N, labels and pixels)."""
    length = label_bytes + PIXEL_BYTES
    content = np.frombuffer(_content(file), dtype=np.uint8)
    if len(content) == 0 or len(content) % length:
        raise DataError(
            f"data.train {file}: wanted rows of {length:,} bytes, found {len(content):,} bytes in all; the file is cut short or "
            "another's: unpack the archive again"
        )
    return content.reshape(-1, length)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"data.train {file}: cannot be read ({error.strerror}); wanted the files of CIFAR's binary version there"
        ) from None
