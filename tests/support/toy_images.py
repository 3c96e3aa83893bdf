"""Small data sets of images in every source, and the error that loading one ends with."""

import io
import json

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from pipeline.errors import ConfigError, DataError
from pipeline.images.dataset import load
from pipeline.images.transforms.recipe import PLAIN
from pipeline.settings import Settings


def settings(source, longtail=None, stage1=None, seed=0, **data):
    return Settings.model_validate(
        {
            "seed": seed,
            "data": {"source": source, "image_size": 8, "workers": 0, **data},
            "longtail": longtail or {"profile": "natural"},
            "stage1": stage1 or {},
        }
    )


def png(number, mode="RGB"):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    return file.getvalue()


def error_of(chosen):
    with pytest.raises((DataError, ConfigError)) as error:
        load(chosen)
    assert "\n" not in str(error.value)
    return error.value


def pixels_of(split):
    return torch.cat(list(split.images.batches([torch.arange(len(split))], PLAIN, 0)))


def write_parquet(path, labels, plain=False, names=None, first=0, images=None):
    images = images or [png(first + row) for row in range(len(labels))]
    cells = images if plain else [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    dtype = pl.Binary if plain else pl.Struct({"bytes": pl.Binary, "path": pl.String})
    frame = pl.DataFrame({"image": pl.Series(cells, dtype=dtype), "label": labels})
    feature = {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path, metadata={"huggingface": json.dumps(feature)} if names else None)
    return str(path)


def write_folder(root, counts):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for row in range(count):
            (root / name / f"{row}.png").write_bytes(png(row))
    return str(root)


def write_list(root, lines, file="train.txt"):
    for line in lines:
        path = root / line.rpartition(" ")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(len(str(path))))
    (root / file).write_text("".join(f"{line}\n" for line in lines))
    return str(root / file)
