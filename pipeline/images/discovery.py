"""What lies in a folder or a file, as settings of `data`: a folder or a table of images is a config."""

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from pipeline.errors import DataError
from pipeline.images.decoding import Item, Undecodable, decode
from pipeline.images.listing import listed
from pipeline.images.sources import load_source
from pipeline.images.sources.arrays import ARRAY_SUFFIXES
from pipeline.images.sources.folder import SUFFIXES
from pipeline.images.sources.parquet_images import ImageColumn
from pipeline.images.sources.published import published_in
from pipeline.images.sources.source import SPLIT_WORDS
from pipeline.images.sources.table import table_in
from pipeline.images.sources.table_columns import LABEL_COLUMN_NAMES
from pipeline.images.sources.table_file import LINE_SUFFIXES, TEXT_SUFFIXES
from pipeline.longtail import evenly_spaced
from pipeline.progress import silently
from pipeline.settings.stage1 import Data

PATH_WORDS = {split: tuple(word for word in words if len(word) > 2) for split, words in SPLIT_WORDS.items()}
"""How a split's folder or file may be called, in any case of letters. Two letters say too little: tr and te are languages too."""
FILE_SOURCES = {
    ".parquet": "parquet",
    ".tar": "webdataset",
    **dict.fromkeys(ARRAY_SUFFIXES, "npz"),
    **dict.fromkeys((*TEXT_SUFFIXES, *LINE_SUFFIXES, ".json"), "table"),
    ".txt": "list",
}
"""Suffix of a file of images or labels -> the source that reads it."""
SHARDED = ("parquet", "webdataset")
"""Sources of which a split may be several files."""
MEASURED = 64
"""Images that mean, spread and size are taken from: enough to tell them to two digits."""
FEW_IMAGES = 5000
"""Up to so many images, images of 64 pixels a side take minutes on a processor; more take hours."""
EPOCH_IMAGES = 200_000
"""Images that stage 1 sees in all, where the numbers of epochs below allow it: some ten minutes at 32 pixels."""
LEAST_EPOCHS, MOST_EPOCHS = 10, 100
SHORT_TRAINING = {
    "batch_size": 64,
    "optimizer": "muon",
    "schedule": "cosine",
    "warmup_epochs": 1.0,
    "loss": "logit-adjusted",
    "mixing": "none",
    "weight_decay": 5e-4,
}
"""Stage 1 of so few epochs, not the 200 that mixup wants: Muon, more and smaller steps, a balanced softmax (RESULTS.md, "Short
budgets")."""


def is_data(path: Path) -> bool:
    """Whether the path is a folder, or a file that a source reads."""
    return path.is_dir() or (path.is_file() and path.suffix.lower() in FILE_SOURCES)


def settings_found(path: Path) -> dict[str, Any]:
    """Values of settings for the images in a folder or file: where they lie, and sensible ones for data of that size.

    Raises DataError where there are no images, or not in any way that a source reads.
    """
    data = found_in(path.absolute())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().stem).strip("-._") or "own"
    with silently():
        train = load_source(Data.model_validate({**data, "workers": 0})).splits["train"]
        rows = evenly_spaced(len(train.labels_N), MEASURED)
        mean, std, side = _measured(train.take(rows))
    count = len(train.labels_N)
    size = 64 if side >= 48 and count <= FEW_IMAGES else 32
    epochs = max(LEAST_EPOCHS, min(MOST_EPOCHS, round(EPOCH_IMAGES / max(count, 1))))
    found = {**data, "image_size": size, "mean": mean, "std": std}
    return {"name": name, "data": found, "stage1": {"epochs": epochs, **SHORT_TRAINING}}


def found_in(path: Path) -> dict[str, Any]:
    """The settings of `data` that name the source, its splits and its columns. Raises DataError where nothing is found."""
    if path.is_file():
        return _of_file(path)
    looks: tuple[Callable[[Path], dict[str, Any]], ...] = (
        published_in,
        _metadata,
        _split_folders,
        _files,
        _class_folders,
    )
    for look in looks:
        if named := look(path):
            return named
    if (path / "data").is_dir():
        return found_in(path / "data")
    entries = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    raise DataError(
        f"{path}: wanted folders of images a class, folders train and test of them, or a file of {', '.join(FILE_SOURCES)}; "
        f"found {listed(entries, 5) or 'nothing'}"
    )


def _of_file(path: Path) -> dict[str, Any]:
    source = FILE_SOURCES.get(path.suffix.lower())
    if source is None:
        raise DataError(f"{path}: wanted a file of {', '.join(FILE_SOURCES)}, found {path.suffix or 'no suffix'}")
    text = glob.escape(str(path)) if source in ("parquet", "webdataset") else str(path)
    return {"source": source, "train": text} if source != "parquet" else {"train": text, **_parquet_columns(path)}


def _metadata(folder: Path) -> dict[str, Any]:
    return {"source": "table", "train": str(folder)} if table_in(folder) else {}


def _split_folders(folder: Path) -> dict[str, Any]:
    """Folders `train`, `val`, `test` that hold the same kind of source."""
    places: dict[str, Path] = {}
    for split, words in PATH_WORDS.items():
        inside = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and entry.name.lower() in words]
        places |= {split: inside[0]} if inside else {}
    if "train" not in places:
        return {}
    by_place = {split: found_in(place) for split, place in places.items()}
    sources = {split: values["source"] for split, values in by_place.items()}
    if len(set(sources.values())) > 1:
        kinds = ", ".join(f"{split}: {source}" for split, source in sources.items())
        raise DataError(f"{folder}: wanted splits of one kind, found {kinds}; write a config that names one of them")
    return {**by_place["train"], **{split: values["train"] for split, values in by_place.items()}}


def _files(folder: Path) -> dict[str, Any]:
    """Files of one kind, alone or by the split that their names say; not where images lie in class folders."""
    if len(_folders_of_images(folder)) > 1:
        return {}
    for suffix, source in FILE_SOURCES.items():
        by_split = _by_split(folder, suffix)
        if "train" not in by_split:
            continue
        columns = _parquet_columns(by_split["train"][0]) if source == "parquet" else {"source": source}
        several = [paths for paths in by_split.values() if len(paths) > 1]
        if columns["source"] not in SHARDED and several:
            raise DataError(
                f"{folder}: wanted one file a split, found {listed([path.name for path in several[0]], 5)}; write a config that "
                "names them"
            )
        return {**columns, **{split: _pattern(folder, split, paths) for split, paths in by_split.items()}}
    return {}


def _by_split(folder: Path, suffix: str) -> dict[str, list[Path]]:
    """The files of that suffix by split; without `train` where nothing says which are for training.

    Where no name says train, the files whose names say no split are for training: any number of shards, but one file of
    another kind. Files that are all of one split are a folder of that split, and so the training images of what is asked for.
    Raises DataError for shards of val and test alone.
    """
    names = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix.lower() == suffix]
    names = [path for path in names if not (suffix == ".npy" and path.stem.lower().split("_")[-1] == "labels")]
    grouped = {split: [path for path in names if _split_of(path) == split] for split in ("", *SPLIT_WORDS)}
    by_split = {split: paths for split, paths in grouped.items() if split and paths}
    is_sharded = FILE_SOURCES[suffix] in SHARDED
    if "train" in by_split or not names:
        return by_split
    if len(names) == 1 or (is_sharded and len(by_split) == 1 and not grouped[""]):
        return {"train": names}
    if grouped[""] and (is_sharded or (len(grouped[""]) == 1 and suffix != ".txt")):
        return {"train": grouped[""], **by_split}
    if is_sharded:
        raise DataError(
            f"{folder}: wanted files of training images, found {listed([path.name for path in names], 5)}; name a file of them "
            f"train{suffix}"
        )
    return by_split


def _split_of(path: Path) -> str:
    """The split that a word of the file's name says, the first such word; "" for none."""
    split_of = {word: split for split, words in PATH_WORDS.items() for word in words}
    return next((split_of[word] for word in re.split(r"[-_. ]", path.stem.lower()) if word in split_of), "")


def _pattern(folder: Path, split: str, paths: Sequence[Path]) -> str:
    """A text that names these files and no others: the only one's path, or a pattern.

    Raises DataError where no simple pattern does.
    """
    suffix = paths[0].suffix
    if len(paths) == 1:
        plain = str(paths[0])
        return glob.escape(plain) if FILE_SOURCES[suffix.lower()] in SHARDED else plain
    names = [path.stem for path in paths]
    word = re.split(r"[-_. ]", names[0])[0]
    alike = os.path.commonprefix(names)  # noqa: RUF071  # these are names, compared by character
    after = "".join(sorted({name[len(alike) : len(alike) + 1] for name in names}))
    starts = ["", glob.escape(alike), f"{glob.escape(alike)}[{after}]"] if after.isalnum() else ["", glob.escape(alike)]
    for start in ([glob.escape(word)] if _split_of(paths[0]) else []) + starts:
        pattern = f"{glob.escape(str(folder))}/{start}*{suffix}"
        if sorted(glob.glob(pattern)) == sorted(map(str, paths)):
            return pattern
    raise DataError(
        f"{folder}: no pattern names {listed([path.name for path in paths], 5)} alone, the files of {split}; let their names "
        f"begin with {split}- and no other's"
    )


def _class_folders(folder: Path) -> dict[str, Any]:
    return {"source": "folder", "train": str(folder)} if _folders_of_images(folder) else {}


def _folders_of_images(folder: Path) -> list[Path]:
    """The folders right below that hold an image, at any depth."""
    inner = (entry for entry in sorted(folder.iterdir()) if entry.is_dir() and not entry.name.startswith("."))
    return [entry for entry in inner if any(path.suffix.lower() in SUFFIXES for path in entry.rglob("*"))]


def _parquet_columns(path: Path) -> dict[str, Any]:
    """The source and the columns of a Parquet file: images in it, or paths of images beside it."""
    try:
        schema = pl.read_parquet_schema(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    images = [name for name, kind in schema.items() if kind == pl.Binary or isinstance(kind, pl.Struct)]
    images = [name for name in images if ImageColumn.expressions(name, schema[name])]
    if not images:
        return {"source": "table"}
    image = "image" if "image" in images else images[0]
    usual = [name for name in schema if name.lower() in LABEL_COLUMN_NAMES or name.lower().endswith("label")]
    label = "label" if "label" in schema or not usual else usual[0]
    return {"source": "parquet", "image_column": image, "label_column": label}


def _measured(items: Sequence[Item]) -> tuple[list[float], list[float], float]:
    """Mean and spread of red, green and blue over the images, from 0 to 1, and the median of their shorter sides."""
    sides, pixels = [], []
    for item in items:
        try:
            image = decode(item)
        except Undecodable:
            continue
        sides.append(min(image.size))
        pixels.append(np.asarray(image.resize((32, 32), Image.Resampling.NEAREST)).reshape(-1, 3) / 255)
    if not pixels:
        return [0.5, 0.5, 0.5], [0.25, 0.25, 0.25], 32.0
    every = np.concatenate(pixels)
    spread = np.maximum(every.std(axis=0), 0.01)
    return every.mean(axis=0).round(3).tolist(), spread.round(3).tolist(), float(np.median(sides))
