"""A small cache whose names are hostile, with finished runs on it: what reports are made of."""

import os
from dataclasses import dataclass
from pathlib import Path

from conftest import Blobs, write_cache

from cache import FeatureCache
from pipeline.settings import Settings
from pipeline.stage2_stg import train_stg
from pipeline.stage3_retrain import retrain

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "\u202e\x1b[31mred\x00\nline | pipe ](javascript:alert(3))",
    "$\\frac{ {{ 7 * 7 }} </svg></style> &amp; `",
    "=cmd|' /C calc'!A0" + "x" * 4000,
)
ARMS = (("stage1", "none"), ("lda", "none"), ("crt", "none"), ("crt", "stg"))


@dataclass(frozen=True)
class Reported:
    """A cache, the folder of its runs, and each run's folder by its method."""

    cache: FeatureCache
    runs: Path
    folders: dict[str, Path]


def reported(folder: Path, classes: tuple[str, ...] | None = None, arms=ARMS, **blobs) -> Reported:
    """Train these arms on blobs; classes have these names."""
    cache = write_cache(folder / "stores", Blobs(**blobs), classes=classes, name=classes[0] if classes else "blobs")
    runs = folder / "runs"
    settings = Settings.model_validate({"name": "toy", "stg": {"epochs": 2}, "retrain": {"epochs": 2, "seeds": 2}})
    stg, _ = train_stg(settings, cache, runs)
    folders = {}
    for head, augmentation in arms:
        changed = settings.retrain.model_copy(update={"head": head, "augmentation": augmentation})
        made, result = retrain(settings.model_copy(update={"retrain": changed}), cache, runs, stg)
        folders[result.method] = made
        os.utime(made / "metrics.json", (len(folders), len(folders)))
    return Reported(cache, runs, folders)
