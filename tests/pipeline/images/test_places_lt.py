"""Both protocols of Places-LT on synthetic images laid out by the real lists, in each dialect of their paths."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cache import FeatureCache
from pipeline.artefacts.folders import read_json
from pipeline.settings.load import load
from pipeline.stage1_backbone import stage1
from pipeline.stage1_extract import extract

CLASSES, EACH = 8, 12


@pytest.fixture
def lists(real_data: Path) -> Path:
    folder = real_data / "places-lt"
    if not folder.is_dir():
        pytest.skip("the lists of Places-LT are wanted in $COATTAIL_DATA/places-lt")
    return folder


def _some(path: Path, each: int) -> list[str]:
    """The first lines of each of the first classes."""
    kept, counts = [], [0] * CLASSES
    for line in path.read_text().splitlines():
        label = int(line.rsplit(" ", 1)[1])
        if label < CLASSES and counts[label] < each:
            counts[label] += 1
            kept.append(line)
    return kept


def _laid_out(root: Path, lists: Path, dialect: str) -> None:
    """Images under the names of one dialect; the lists name them in their own."""
    draw = np.random.default_rng(0)
    for split, each in (("train", EACH), ("test", 4), ("val", 2)):
        source = lists / "data_256" if dialect == "data_256" and split == "train" else lists
        lines = _some(source / f"Places_LT_{split}.txt", each)
        (root / f"Places_LT_{split}.txt").write_text("\n".join(lines) + "\n")
        for line in lines:
            name, label = line.rsplit(" ", 1)
            path = root / ("places365_standard" if dialect == "places365_standard" else "") / name
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 60, (40, 48, 3)) + 20 * int(label)
            Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.mark.parametrize(
    ("config", "dialect", "method"),
    [
        ("places-lt", "train", "mixup+weight-decay"),
        ("places-lt+new-block", "data_256", "mixup+new-block+weight-decay"),
        ("places-lt", "places365_standard", "mixup+weight-decay"),
    ],
)
def test_both_protocols_train_and_are_dumped(lists, config, dialect, method, tmp_path, monkeypatch):
    monkeypatch.setenv("PLACES", str(tmp_path / "images"))
    (tmp_path / "images").mkdir()
    _laid_out(tmp_path / "images", lists, dialect)
    settings = load(
        config,
        ["data.image_size=32", "data.workers=0", "backbone.name=resnet10", "backbone.weights=", "stage1.amp=off",
         "extract.amp=off", "extract.views=1", "stage1.epochs=1", "stage1.batch_size=32"],
    ).settings  # fmt: skip
    done = stage1(settings, tmp_path / "runs")
    assert done.metrics["counts"] == [EACH] * CLASSES
    assert len((done.folder / "log.jsonl").read_text().splitlines()) == 1
    cache = FeatureCache.open(extract(settings, done, tmp_path / "stores"))
    assert cache.features("train", "view-01").shape == (EACH * CLASSES, 512)
    assert read_json(done.folder / "metrics.json")["method"] == method


def test_the_protocols_are_the_published_ones():
    oltr, mislas = load("places-lt").settings, load("places-lt+new-block").settings
    assert (oltr.backbone.name, oltr.backbone.weights) == ("resnet152", "IMAGENET1K_V1")
    assert (oltr.stage1.learning_rate, oltr.stage1.schedule, oltr.stage1.gamma) == (0.01, "steps", 0.1)
    assert [round(share * oltr.stage1.epochs) for share in oltr.stage1.milestones] == [10, 20]
    assert (mislas.backbone.ending, mislas.stage1.learning_rate, mislas.stage1.epochs) == ("new-block", 0.1, 90)
    imagenet = load("imagenet-lt").settings.stage1
    assert (imagenet.schedule, imagenet.learning_rate, imagenet.epochs) == ("cosine", 0.1, 180)
