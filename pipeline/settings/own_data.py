"""A commented config for one's own images, and the paths of a config that lead nowhere."""

import glob
import json
import os
from pathlib import Path
from typing import Any

from pipeline.settings import Settings
from pipeline.settings.paths import WEIGHTS

COMMENTS = {
    "data.source": "how the images lie; folder, table, parquet, list, npz, webdataset, or a published data set by its name",
    "data.train": "paths are relative to this file",
    "data.image_column": "the column of images or of their paths",
    "data.label_column": "the column of labels: numbers or names",
    "data.image_size": "pixels a side that the backbone sees; twice as many take four times as long",
    "data.mean": "of red, green and blue, 0 to 1, over some of these images",
    "data.std": "their spread",
    "stage1.epochs": "passes over the training images; more on a GPU (200 is usual for CIFAR)",
    "stage1.batch_size": "images of a step; few passes want small steps, 200 do with 128",
    "stage1.optimizer": "muon, for few passes from random weights; sgd is what published recipes of 200 take",
    "stage1.schedule": "the rate falls to nothing along a cosine",
    "stage1.warmup_epochs": "epochs in which the rate rises",
    "stage1.loss": "the balanced softmax: classes' frequencies are part of the loss; ce is plain",
    "stage1.mixing": "mixup or cutmix mix pairs of images, which helps over many epochs",
}
"""What is said of a setting in a config that `config init` writes."""
OFFERED = (
    ("data", "test_share", 0.2, "without data.test, this share of each class is held out as the test split"),
    ("data", "on_bad", "skip", "leave out images that cannot be decoded, and list them"),
    ("longtail", "profile", "natural", "the training split as it is; exponential draws a long tail from it"),
    ("backbone", "name", "resnet32", "a small network; resnet50 with weights suits photographs on a GPU"),
    ("extract", "views", 4, "augmented views of each training image, beside the clean one"),
)
"""Settings that a new config offers, commented out: section, key, value, what it means."""


def commented(values: dict[str, Any], source: str) -> str:
    """The values as TOML, each with what it means, and further settings that are worth a look, commented out."""
    lines = [
        f"# Made by `coattail config init {source}` for the images there.".replace("\n", " "),
        "# Look first: coattail inspect THIS-FILE. All settings and their defaults: coattail config show THIS-FILE.",
        f"name = {_toml(values['name'])}",
    ]
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    for section in dict.fromkeys([*sections, *(name for name, *_ in OFFERED)]):
        given = sections.get(section, {})
        lines += ["", f"[{section}]"]
        for key, value in given.items():
            lines += [f"# {COMMENTS[f'{section}.{key}']}"] if f"{section}.{key}" in COMMENTS else []
            lines.append(f"{key} = {_toml(value)}")
        for other, key, value, meaning in OFFERED:
            if other == section and key not in given and not (key == "test_share" and "test" in given):
                lines += [f"# {meaning}", f"# {key} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def path_problems(settings: Settings) -> list[str]:
    """A line for each path in the settings that nothing lies at, and for each variable in one that is not set."""
    named = {f"data.{key}": getattr(settings.data, key) for key in ("train", "val", "test", "root")}
    if settings.backbone.weights.endswith(WEIGHTS):
        named["backbone.weights"] = settings.backbone.weights
    problems = []
    for key, text in named.items():
        place = os.path.expanduser(os.path.expandvars(text))
        if "$" in place:
            problems.append(f"{key} {text}: a variable in it is not set; export it, or write the path out")
        elif place and not Path(place).exists() and not glob.glob(place, recursive=True):
            problems.append(f"{key} {text}: nothing lies there; correct the path, or put the files there")
    if settings.data.source != "digits" and not settings.data.train:
        problems.append(f"data.train: wanted a path, found nothing; data.source={settings.data.source} reads it")
    return problems


def _toml(value: Any) -> str:
    """JSON's texts, numbers and lists are TOML's."""
    return json.dumps(value, ensure_ascii=False)
