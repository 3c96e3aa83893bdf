"""Published long-tailed data sets, known by the names of their files: iNaturalist 2018 and 2019, ImageNet-LT, Places-LT.

`data.train` is the folder that the published files were unpacked into. Nothing is downloaded.
"""

from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, DataError
from pipeline.images.listing import listed
from pipeline.images.sources.list_file import load_list
from pipeline.images.sources.source import Source, expand
from pipeline.images.sources.table import load_table
from pipeline.progress import note
from pipeline.settings.stage1 import Data

YEARS = ("2018", "2019")
"""Years of iNaturalist that are published as train{year}.json, val{year}.json and the folder train_val{year}."""
LISTS = {
    "imagenet-lt": ("ImageNet_LT", ("", "ImageNet_LT")),
    "places-lt": ("Places_LT", ("", "Places_LT", "Places_LT_v2")),
}
"""Source -> how the names of its lists begin, and the folders below `data.train` in which releases put them."""


def load_inaturalist(data: Data) -> Source:
    """iNaturalist of one year: `train` and, from its validation file, `test`, for the labels of the test set are not published.

    `data.train` is the folder with train2018.json, val2018.json and train_val2018/, or the training file, where the folder
    has several years. `data.root`: the folder that holds train_val2018/, where that is another. Raises DataError that says
    what is wanted where.
    """
    _refuse_splits(data)
    train = _annotations(expand("data.train", data.train))
    year = _year(train)
    val = train.with_name(f"val{year}.json")
    root = expand("data.root", data.root) if data.root else train.parent
    if not val.is_file():
        raise DataError(f"data.train {train.parent}: wanted {val.name} beside {train.name}, found none; put it there")
    if not (root / f"train_val{year}").is_dir():
        raise DataError(
            f"data.train {train.parent}: wanted the images in {root / f'train_val{year}'}, found no such folder; unpack "
            f"train_val{year}.tar.gz in {root}, or name the folder that it was unpacked in with --set data.root=FOLDER"
        )
    note(
        f"iNaturalist {year}: {val.name} is the test split, as is usual, for the labels of the test set are not published"
    )
    return load_table(_with(data, train=str(train), test=str(val), root=str(root)))


def load_published_lists(data: Data) -> Source:
    """ImageNet-LT or Places-LT, by `data.source`: the splits of its three lists, as published.

    `data.train` is the folder with the lists; `data.root`, by default the same, the one that the images' paths start from.
    Raises DataError that says what is wanted where.
    """
    _refuse_splits(data)
    start, places = LISTS[data.source]
    folder = expand("data.train", data.train)
    wanted = {split: f"{start}_{split}.txt" for split in ("train", "val", "test")}
    inside = next((folder / place for place in places if (folder / place / wanted["train"]).is_file()), None)
    if inside is None:
        raise DataError(
            f"data.train {folder}: wanted the folder with {', '.join(wanted.values())}, found {_contents(folder)}; the lists "
            "come with the code of OLTR (Liu et al., 2019), the images from the data set's own site"
        )
    missing = [name for name in wanted.values() if not (inside / name).is_file()]
    if missing:
        raise DataError(
            f"data.train {inside}: wanted {', '.join(missing)} beside {wanted['train']}, found none; put it there"
        )
    paths = {split: str(inside / name) for split, name in wanted.items()}
    return load_list(_with(data, root=data.root or str(folder), **paths))


def published_in(folder: Path) -> dict[str, Any]:
    """The settings of `data` for a published data set that lies in the folder; empty where none does."""
    files = [f"train{year}.json" for year in YEARS if (folder / f"train{year}.json").is_file()]
    if files and (folder / files[0].replace("train", "val", 1)).is_file():
        return {"source": "inaturalist", "train": str(folder)}
    for source, (start, places) in LISTS.items():
        if any((folder / place / f"{start}_train.txt").is_file() for place in places):
            return {"source": source, "train": str(folder)}
    return {}


def _annotations(place: Path) -> Path:
    """The training file that a folder holds, or the file itself."""
    if place.is_file():
        if _year(place) in YEARS:
            return place
        raise DataError(f"data.train {place}: wanted train2018.json or train2019.json, or the folder with it")
    there = [place / f"train{year}.json" for year in YEARS if (place / f"train{year}.json").is_file()]
    if not there:
        raise DataError(
            f"data.train {place}: wanted the folder with train2018.json, val2018.json and train_val2018/ (or those of 2019), "
            f"found {_contents(place)}; get them from the competition's site"
        )
    if len(there) > 1:
        names = " and ".join(path.name for path in there)
        raise DataError(f"data.train {place}: wanted one year, found {names}; name the file, {there[0]}")
    return there[0]


def _year(train: Path) -> str:
    return train.name.removeprefix("train").removesuffix(".json")


def _contents(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    return listed(sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith(".")), 5) or "nothing"


def _refuse_splits(data: Data) -> None:
    for key in ("val", "test"):
        if text := getattr(data, key):
            raise ConfigError(
                f"data.{key} {text}: the source {data.source} brings its own splits; leave data.{key} empty, or take "
                "data.source=list or table"
            )


def _with(data: Data, **values: str) -> Data:
    return data.model_copy(update=values)
