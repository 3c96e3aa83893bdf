"""WebDataset shards: tar files of numbered samples (`0001.jpg` beside `0001.cls` or `0001.json`), read without unpacking."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from pipeline.errors import DataError
from pipeline.images.decoding import Item
from pipeline.images.listing import listed
from pipeline.images.reading import IMAGE_BYTES
from pipeline.images.sources.class_names import checked
from pipeline.images.sources.folder import SUFFIXES
from pipeline.images.sources.labels import numbered
from pipeline.images.sources.source import DeferredItems, Raw, Source, files, portable
from pipeline.longtail import Rows
from pipeline.progress import track
from pipeline.settings.stage1 import Data

LABEL_SUFFIXES = ("cls", "json")
LABEL_BYTES = 1 << 20
"""A sample's .cls or .json file may have at most so many bytes."""
JSON_KEYS = ("label", "cls", "class", "class_name", "target")
"""Keys of a .json file that hold the label, where `data.label_column` is not among its keys."""


@dataclass
class _Index:
    """The samples of one split in the order of the shards: id, label as written, and where the image lies."""

    ids: list[str]
    labels: list[int | str]
    shard: list[int]
    offset: list[int]
    size: list[int]


def load_webdataset(data: Data) -> Source:
    """Splits from the shards that `data.train`, `data.val`, `data.test` name: a .tar file, a folder of them, or a glob.

    Only headers and labels are read first; images are read by their place in the file when they are used. A sample is the
    files whose names are equal up to the first dot. Its label is the text of `.cls`, a number or a name, or in `.json`
    the value of `data.label_column`. Raises DataError for a sample without image or label, and for compressed shards.
    """
    shards = {
        name: tuple(files(f"data.{name}", getattr(data, name), "*.tar"))
        for name in ("train", "val", "test")
        if name == "train" or getattr(data, name)
    }
    indices = {name: _index(f"data.{name}", paths, data.label_column) for name, paths in shards.items()}
    shown = {name: f"data.{name} {paths[0].parent}" for name, paths in shards.items()}
    columns = {name: pl.Series("label", index.labels, strict=False) for name, index in indices.items()}
    classes, labels = numbered(columns, checked("data.classes", data.classes), shown)
    return Source(classes, {name: _raw(shards[name], index, labels[name]) for name, index in indices.items()})


def _raw(shards: tuple[Path, ...], index: _Index, labels_N: Rows) -> Raw:
    return Raw(index.ids, labels_N, partial(DeferredItems, partial(_image, shards, index)), index.ids)


def _image(shards: tuple[Path, ...], index: _Index, row: int) -> Item:
    # Each read opens the file anew: workers and threads then share no position in it.
    with shards[index.shard[row]].open("rb") as file:
        file.seek(index.offset[row])
        return file.read(index.size[row])


def _index(key: str, shards: Sequence[Path], label_key: str) -> _Index:
    index = _Index([], [], [], [], [])
    with track(len(shards), "looking through shards", "shards") as progress:
        for number, path in enumerate(shards):
            where = f"{key} {path}"
            for sample, members in _samples(where, path):
                image = next((member for suffix, member in members.items() if f".{suffix}" in SUFFIXES), None)
                label = next((suffix for suffix in LABEL_SUFFIXES if suffix in members), None)
                if image is None or label is None:
                    wanted = "an image" if image is None else "a label (.cls or .json)"
                    names = listed([f".{suffix}" for suffix in members])
                    raise DataError(f"{where}: sample {sample}: wanted {wanted}, found {names}")
                index.ids.append(portable(image[0]))
                index.labels.append(_label(f"{where}: sample {sample}", label, members[label][3], label_key))
                index.shard.append(number)
                index.offset.append(image[1])
                index.size.append(image[2])
            progress.advance(1)
    if not index.ids:
        raise DataError(f"{key} {shards[0]}: holds no sample")
    return index


_Member = tuple[str, int, int, bytes]
"""A file in a shard: its name, where its content begins, its length, and the content where it is a label's."""


def _samples(where: str, path: Path) -> Iterator[tuple[str, dict[str, _Member]]]:
    """Each sample's name and its files by suffix, in the order of the shard."""
    current = ""
    members: dict[str, _Member] = {}
    for name, member in _members(where, path):
        folder, slash, base = name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if folder + slash + stem != current and members:
            yield current, members
            members = {}
        current = folder + slash + stem
        members[suffix.rpartition(".")[2].lower()] = member
    if members:
        yield current, members


def _members(where: str, path: Path) -> Iterator[tuple[str, _Member]]:
    try:
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                if not info.isfile() or info.issparse() or Path(info.name).name.startswith("."):
                    continue
                if info.size > IMAGE_BYTES:
                    raise DataError(f"{where}: {info.name}: {info.size} bytes, at most {IMAGE_BYTES} wanted")
                content = b""
                if info.name.rpartition(".")[2].lower() in LABEL_SUFFIXES:
                    if info.size > LABEL_BYTES:
                        raise DataError(f"{where}: {info.name}: {info.size} bytes, at most {LABEL_BYTES} wanted")
                    reader = archive.extractfile(info)
                    content = reader.read() if reader else b""
                yield info.name, (info.name, info.offset_data, info.size, content)
    except tarfile.TarError as error:
        with path.open("rb") as file:
            is_packed = file.read(2) in (b"\x1f\x8b", b"BZ", b"\xfd7")
        remedy = (
            "it is compressed: unpack it once, as with gunzip, for samples are read by their place"
            if is_packed
            else error
        )
        raise DataError(f"{where}: cannot be read as a tar file ({remedy})") from None
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror})") from None


def _label(where: str, suffix: str, content: bytes, key: str) -> int | str:
    try:
        text = content.decode("utf-8")
        if suffix == "cls":
            return text.strip()
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise DataError(f"{where}: its .{suffix} cannot be read as {'text' if suffix == 'cls' else 'JSON'}") from None
    names = (key, *JSON_KEYS)
    label = next((values[name] for name in names if name in values), None) if isinstance(values, dict) else None
    if not isinstance(label, (int, str)):
        keys = listed(sorted(values)) if isinstance(values, dict) else "no keys"
        raise DataError(f"{where}: wanted a label under {key!r} in its .json, found {keys}; set data.label_column")
    return str(label)
