"""A folder of tiny images, a backbone that was trained on it for a second, its cache, and a classifier of two seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from small_runs import small

import pipeline
from cache import FeatureCache
from pipeline.settings import Settings
from pipeline.stage1_backbone import stage1
from pipeline.stage1_extract import extract


def finished_run(root: Path, classes: Sequence[str], rows: Mapping[str, int]) -> dict[str, object]:
    """`root`, `run`, `cache` and `settings`; `rows` are the images that each class has in each split, by its name.

    Images are 9 x 11 pixels of noise, brighter for later classes. Splits lie in folders of their names below `root`, run
    folders in `runs/`, the cache in `stores/`.
    """
    draw = np.random.default_rng(0)
    for split, count in rows.items():
        for number, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for row in range(count):
                pixels = draw.integers(0, 80, (11, 9, 3)) + 60 * number
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f"{row:02}.png")
    data = {"source": "folder", "image_size": 8, "workers": 0, **{split: str(root / split) for split in rows}}
    values = {**small(epochs=2).model_dump(), "data": data, "longtail": {"profile": "natural"}}
    settings = Settings.model_validate({**values, "retrain": {"augmentation": "none", "epochs": 3, "seeds": 2}})
    cache = extract(settings, stage1(settings, root / "runs"), root / "stores")
    folder, _ = pipeline.retrain(settings, FeatureCache.open(cache), root / "runs")
    return {"root": root, "run": folder, "cache": cache, "settings": settings}
