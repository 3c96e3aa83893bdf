"""Decoded images on disk: the pixels of the other two ways, one decoding, nothing half-written, found again, pruned."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cache import catalog
from cache.prune import DECODED_IDLE, prune
from pipeline.errors import ConfigError, DataError
from pipeline.images import disk_space, pixels
from pipeline.images.dataset import load
from pipeline.images.decoded import PIXELS_FILE, DiskImages
from pipeline.images.decoding import decode
from pipeline.images.lazy import LazyImages
from pipeline.images.pixels import Geometry, RamImages
from pipeline.images.transforms.policies import Policy
from pipeline.images.transforms.recipe import PLAIN, Recipe
from pipeline.plan import plan_images
from pipeline.progress import collected
from pipeline.settings.load import load as settings_of

ROOT = Path(__file__).resolve().parents[3]
SIZE, ROWS = 16, 9
IMAGES = [
    np.asarray(Image.fromarray(np.random.default_rng(row).integers(0, 256, (20, 20 + row, 3), dtype=np.uint8)))
    for row in range(ROWS)
]
NAMES = [f"image {row}" for row in range(ROWS)]
DIGESTS = [bytes([row]) * 32 for row in range(ROWS)]
GEOMETRY = Geometry(SIZE, SIZE)
RECIPES = [PLAIN, Recipe("crop-flip"), Recipe("crop", Policy("trivialaugment"), 4, (1, 2, 3))]


@pytest.fixture(autouse=True)
def stores(tmp_path, monkeypatch):
    monkeypatch.setenv("COATTAIL_STORES", str(tmp_path / "stores"))
    monkeypatch.setenv("COATTAIL_RUNS", str(tmp_path / "runs"))
    return tmp_path / "stores"


def on_disk(items=IMAGES, geometry=GEOMETRY):
    return DiskImages(items, NAMES, geometry, DIGESTS)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_pixels_are_those_of_the_other_ways(recipe):
    rows = [torch.tensor([3, 1, 8]), torch.tensor([3, 0])]
    repeats = [torch.tensor([0, 1, 0]), torch.tensor([2, 0])]
    others = [RamImages(IMAGES, NAMES, GEOMETRY), LazyImages(IMAGES, NAMES, GEOMETRY, workers=0)]
    disk = list(on_disk().batches(rows, recipe, 5, repeats))
    for other in others:
        for own, wanted in zip(disk, other.batches(rows, recipe, 5, repeats), strict=True):
            assert torch.equal(own, wanted)
            assert own.is_contiguous(memory_format=torch.channels_last)


def test_images_are_decoded_once_and_found_by_the_next_run(stores, monkeypatch):
    decoded = []
    monkeypatch.setattr(pixels, "decode", lambda item, scale: decoded.append(1) or decode(item, scale))
    first = on_disk()
    assert first.bytes_to_write() == ROWS * SIZE * SIZE * 3
    for seed in range(3):
        list(first.batches([torch.arange(ROWS)], RECIPES[1], seed))
    on_disk().prepare()
    assert len(decoded) == ROWS
    assert on_disk().bytes_to_write() == 0
    assert len(list(stores.glob(f"{catalog.DECODED}/*/{PIXELS_FILE}"))) == 1


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b"0", lambda content: b""])
def test_a_file_of_another_length_is_made_again(stores, damage):
    wanted = next(on_disk().batches([torch.arange(ROWS)], PLAIN, 0))
    (file,) = stores.glob(f"{catalog.DECODED}/*/{PIXELS_FILE}")
    file.write_bytes(damage(file.read_bytes()))
    assert torch.equal(next(on_disk().batches([torch.arange(ROWS)], PLAIN, 0)), wanted)


@pytest.mark.parametrize(
    "other",
    [Geometry(SIZE, 18), Geometry(SIZE, SIZE, "bicubic"), Geometry(SIZE, SIZE, fit="stretch")],
    ids=str,
)
def test_another_geometry_is_another_file(other):
    on_disk().prepare()
    images = on_disk(geometry=other)
    assert images.bytes_to_write() > 0
    wanted = next(RamImages(IMAGES, NAMES, other).batches([torch.arange(ROWS)], PLAIN, 0))
    assert torch.equal(next(images.batches([torch.arange(ROWS)], PLAIN, 0)), wanted)


def test_broken_images_are_named_and_nothing_is_kept(stores):
    items = [*IMAGES[:4], b"no image", *IMAGES[5:8], b""]
    with pytest.raises(DataError, match=r"2 images cannot be decoded: image 4 .*image 8 "):
        on_disk(items).prepare()
    assert not list(stores.rglob("*.npy")) + list(stores.rglob("*.tmp"))


def test_a_killed_process_leaves_no_half_file_and_the_part_is_pruned(stores):
    code = (
        "import os, signal; from pipeline.images import decoded; from tests.pipeline.images.test_decoded import on_disk\n"
        "decoded.raise_broken = lambda broken, names: os.kill(os.getpid(), signal.SIGKILL)\n"
        "on_disk().prepare()"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not list(stores.rglob(PIXELS_FILE))
    assert len(list(stores.rglob("*.tmp"))) == 1
    (torn,) = prune(stores, now=time.time() + 3 * 3600)
    assert torn.reason == "part of decoded images, untouched for 3 h"
    on_disk().prepare()
    prune(stores, yes=True, now=time.time() + 3 * 3600)
    assert not list(stores.rglob("*.tmp"))
    assert len(list(stores.rglob(PIXELS_FILE))) == 1


def test_prune_offers_what_was_not_used_for_a_week(stores):
    on_disk().prepare()
    assert [listing.state for listing in catalog.ls(stores)] == ["decoded"]
    assert prune(stores, yes=True) == []
    later = time.time() + DECODED_IDLE + 86_400
    (offered,) = prune(stores, yes=True, now=later)
    assert (offered.reason, offered.kept) == ("decoded images, unused for 8 days", "")
    assert not list(stores.rglob(PIXELS_FILE))


def folder_settings(tmp_path, *overrides):
    for label, name in enumerate(("copepod", "diatom")):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        for row in range(5):
            Image.fromarray(IMAGES[5 * label + row - (label and 1)]).save(tmp_path / "photos" / name / f"{row}.png")
    texts = ["data.source=folder", f"data.train={tmp_path / 'photos'}", "stage1.device=cpu", *overrides]
    return settings_of(overrides=texts).settings


def test_the_size_is_said_before_and_a_dry_run_writes_nothing(tmp_path, stores):
    settings = folder_settings(tmp_path, "data.decoded=disk", "stage1.batch_size=2")
    with collected() as notes:
        plan = plan_images(settings, stores, tmp_path / "runs")
    assert plan.steps[0].bytes_written == 10 * 32 * 32 * 3
    assert any(text.startswith("decoded images: train 0.00 GiB, test 0.00 GiB will be written to") for text in notes)
    assert not stores.exists()
    with collected() as notes:
        for split in load(settings).splits.values():
            split.images.prepare()
        load(settings)
    assert notes[-1] == f"decoded images: found at {stores} from an earlier run"


def test_a_disk_without_room_is_said_before_anything_is_decoded(tmp_path, monkeypatch, stores):
    monkeypatch.setattr(disk_space, "free_bytes", lambda: 100)
    with pytest.raises(DataError, match=r"data.decoded=disk: wanted 0.0 GiB at .*, found 0.0 GiB free; free space"):
        load(folder_settings(tmp_path, "data.decoded=disk"))
    assert not stores.exists()


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_resized_crops_are_not_cut_from_small_images(tmp_path, place):
    settings = folder_settings(tmp_path, f"data.decoded={place}", "stage1.augmentation=resized-crop")
    with pytest.raises(
        ConfigError, match=f"data.decoded={place}: wanted auto or no with stage1.augmentation=resized-crop"
    ):
        load(settings)


def test_auto_says_what_the_disk_would_spare(tmp_path):
    kinds = {"ram": RamImages, "disk": DiskImages, "no": LazyImages}
    for place, kind in kinds.items():
        assert isinstance(load(folder_settings(tmp_path, f"data.decoded={place}")).splits["train"].images, kind)
    with collected() as notes:
        assert isinstance(load(folder_settings(tmp_path, "data.ram_limit=1e-9")).splits["train"].images, LazyImages)
    assert any("--set data.decoded=disk decodes them once" in text for text in notes)
