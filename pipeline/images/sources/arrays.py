"""Images as arrays of numpy: one .npz file with every split, or a .npy file of images with its labels beside it."""

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.listing import listed
from pipeline.images.sources.class_names import checked
from pipeline.images.sources.labels import numbered
from pipeline.images.sources.source import SPLIT_WORDS, DeferredItems, Raw, Source, expand
from pipeline.longtail import Rows
from pipeline.settings.stage1 import Data

IMAGE_ARRAYS = ("images", "image", "x", "data")
LABEL_ARRAYS = ("labels", "label", "y", "targets", "target")
"""Names of arrays in a .npz file, alone or with the split before them: `train_images`, `x_train`."""
ARRAY_SUFFIXES = (".npz", ".npy")
ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
"""First bytes of a .npz file; the second ones are those of an empty archive."""
NO_ARRAYS = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)
"""What numpy raises for a file that is empty, cut short, damaged, encrypted or no array at all."""


def _image(pixels: NDArray[np.uint8], row: int) -> Item:
    """One image of an array (N, H, W), (N, H, W, 1) or (N, H, W, 3), as uint8 (H, W, 3)."""
    image = np.asarray(pixels[row])
    image_HWC = image if image.ndim == 3 else image[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(image_HWC, (*image_HWC.shape[:2], 3)))


def load_arrays(data: Data) -> Source:
    """Splits from the files `data.train`, `data.val`, `data.test`; one .npz file may hold them all.

    A .npz file holds arrays of images and labels under usual names, such as `images` and `labels`, `x_train` and `y_train`
    (Keras) or `train_images` and `train_labels` (MedMNIST), or under those of `data.image_column` and
    `data.label_column`. Labels of `photos.npy` are read from `photos_labels.npy`, or from `labels.npy` in its folder.
    Images are uint8 (N, H, W, 3), (N, H, W, 1) or (N, H, W); those of .npy files stay on disk until they are used.
    Raises DataError for other arrays, and for unequal numbers of images and labels.
    """
    arrays_of: dict[str, tuple[str, NDArray[Any], NDArray[Any]]] = {}
    for name in ("train", "val", "test"):
        if name == "train" or getattr(data, name):
            arrays_of |= _read(name, expand(f"data.{name}", getattr(data, name)), data)
    arrays_of = {name: arrays_of[name] for name in SPLIT_WORDS if name in arrays_of}
    if "train" not in arrays_of:
        raise DataError(f"data.train {data.train}: holds no training images")
    columns, shown = {}, {}
    for name, (where, images, labels) in arrays_of.items():
        _check(where, images, labels)
        flat = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
        columns[name] = pl.Series("label", flat.tolist(), strict=False)
        shown[name] = where
    classes, numbers = numbered(columns, checked("data.classes", data.classes), shown)
    return Source(classes, {name: _raw(name, images, numbers[name]) for name, (_, images, _) in arrays_of.items()})


def _read(name: str, file: Path, data: Data) -> dict[str, tuple[str, NDArray[Any], NDArray[Any]]]:
    """For each split in the file: its place, for errors, and its arrays of images and labels."""
    where = f"data.{name} {file}"
    if not file.is_file() or file.suffix.lower() not in ARRAY_SUFFIXES:
        raise DataError(
            f"{where}: wanted a .npz or .npy file, found {'no such file' if not file.is_file() else file.name}"
        )
    if file.suffix.lower() == ".npy":
        return {name: (where, _load(where, file), _load(where, _labels_beside(where, file)))}
    arrays = _load_all(where, file)
    alone = _pair(arrays, where, data, "")
    if alone:
        return {name: alone}
    pairs = {split: _pair(arrays, where, data, split) for split in SPLIT_WORDS}
    of_split = {split: pair for split, pair in pairs.items() if pair}
    if not of_split:
        raise DataError(
            f"{where}: wanted arrays of images and labels, such as images and labels, found {listed(sorted(arrays))}; name them "
            "with --set data.image_column=NAME --set data.label_column=NAME"
        )
    if name != "train" and name not in of_split:
        raise DataError(f"{where}: wanted arrays of the split {name}, found those of {' and '.join(of_split)} alone")
    # Of the training file come all splits but those that a setting of their own names.
    kept = [split for split in of_split if split == name or (name == "train" and not getattr(data, split))]
    return {split: of_split[split] for split in kept}


def _pair(
    arrays: Mapping[str, NDArray[Any]], where: str, data: Data, split: str
) -> tuple[str, NDArray[Any], NDArray[Any]] | None:
    """The arrays of images and of labels of a split, or those that name no split; None where either is missing."""
    own = {name.lower(): name for name in arrays}

    def named(usual: Sequence[str], setting: str) -> str | None:
        words = (*((setting,) if setting else ()), *usual)
        if not split:
            return next((own[word.lower()] for word in words if word.lower() in own), None)
        spelled = [f"{part}_{word}" for part in SPLIT_WORDS[split] for word in words]
        spelled += [f"{word}_{part}" for part in SPLIT_WORDS[split] for word in words]
        return next((own[text.lower()] for text in spelled if text.lower() in own), None)

    image, label = named(IMAGE_ARRAYS, data.image_column), named(LABEL_ARRAYS, data.label_column)
    return None if image is None or label is None else (f"{where}: {label}", arrays[image], arrays[label])


def _labels_beside(where: str, file: Path) -> Path:
    places = [file.with_name(f"{file.stem}_labels.npy"), file.with_name("labels.npy")]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        raise DataError(f"{where}: wanted its labels in {places[0].name} or {places[1].name} beside it, found neither")
    return place


def _load(where: str, file: Path) -> NDArray[Any]:
    """The array, memory-mapped. Raises DataError for what is no array of plain numbers or texts."""
    try:
        with file.open("rb") as stream:
            is_archive = stream.read(4) in ZIP_STARTS
        array: NDArray[Any] | None = None if is_archive else np.load(file, mmap_mode="r", allow_pickle=False)
    except NO_ARRAYS as error:
        raise DataError(f"{where}: {file.name} cannot be read as an array ({_reason(error)})") from None
    if array is None:
        raise DataError(f"{where}: {file.name} is a .npz file by its content; name it so")
    return array


def _load_all(where: str, file: Path) -> dict[str, NDArray[Any]]:
    """The arrays in a .npz file. Raises DataError for what is none, and for an array in it that cannot be read."""
    members: dict[str, Any] = {}
    try:
        with file.open("rb") as stream:  # numpy leaves a file of its own open where the archive is damaged
            archive = np.load(stream, allow_pickle=False)
            is_archive = not isinstance(archive, np.ndarray)
            if is_archive:
                with archive:
                    members = {name: archive[name] for name in archive.files}
                    stored = set(archive.zip.namelist())
    except NO_ARRAYS as error:
        raise DataError(f"{where}: cannot be read as arrays ({_reason(error)})") from None
    if not is_archive:
        raise DataError(f"{where}: is a .npy file by its content; name it so")
    arrays = {name: member for name, member in members.items() if isinstance(member, np.ndarray)}
    damaged = [f"{name}.npy" for name in members if name not in arrays and f"{name}.npy" in stored]
    if damaged:
        raise DataError(
            f"{where}: cannot be read as arrays ({listed(damaged)} in it holds no array); write the file again"
        )
    return arrays


def _reason(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, tokenize.TokenError) else str(error)
    if "pickled" in text:  # numpy's word for any file that begins as none of its own
        return "it does not begin as a file of numpy does"
    return (text.splitlines() or [type(error).__name__])[0]


def _check(where: str, images: NDArray[Any], labels: NDArray[Any]) -> None:
    is_image = images.dtype == np.uint8 and (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3)))
    if not is_image or 0 in images.shape:
        raise DataError(
            f"{where}: wanted images as uint8 (N, H, W, 3), (N, H, W, 1) or (N, H, W), found {images.dtype} {images.shape}; "
            "convert them to 0 … 255 with the colours last"
        )
    if labels.ndim not in (1, 2) or len(labels) != len(images):
        raise DataError(f"{where}: wanted a label for each of {len(images)} images, found an array {labels.shape}")


def _raw(name: str, images: NDArray[np.uint8], labels_N: Rows) -> Raw:
    ids = [f"{name}#{row}" for row in range(len(images))]
    return Raw(ids, labels_N, partial(DeferredItems, partial(_image, images)))
