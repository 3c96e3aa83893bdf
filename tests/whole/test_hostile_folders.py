"""Every file of run folders and of a staging folder, mutated: the command ends well or with one line, never with a traceback."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Blobs, write_cache
from PIL import Image

import cli
from cache.staging import sealing
from pipeline.artefacts import folders as runs
from pipeline.errors import DataError
from pipeline.stage3_record import RetrainResult

OWN = """
seed = 0
[data]
source = "folder"
train = "images"
image_size = 8
workers = 0
[backbone]
name = "resnet20"
[stage1]
epochs = 0
[extract]
views = 1
"""
TEXTS = (b"", b"[]", b"[" * 50_000, b'{"accuracy": "\\ud800"}')
DRAWS = 1
RETRAIN = (
    "retrain",
    "--cache",
    "stores/*",
    "--set",
    "stg.epochs=1",
    "--set",
    "stg.head_classes=2",
    "--set",
    "retrain.epochs=1",
)
EXTRACT = ("train-backbone", "--config", "own.toml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache and what stages 1 to 3 leave, the extraction cut off just before its cache appears."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "own.toml").write_text(OWN)
    for name, count in (("cat", 8), ("dog", 5)):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name / f"{number}.png")
    write_cache(folder / "stores", Blobs((12, 9, 4), test_rows=3))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command(patch, RETRAIN) == 0

        def cut_off(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(sealing, "publish", cut_off)
        assert command(patch, EXTRACT) == 130
    return folder


@pytest.mark.parametrize("name", ["mean", "std"])
def test_figures_that_are_not_those_of_a_run(whole, tmp_path, name):
    file = next(whole.glob("runs/blobs/crt+stg-*/metrics.json"))
    document = json.loads(file.read_text())
    del document[name]["ece"], document["checksum"]
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    with pytest.raises(DataError) as error:
        runs.read_result(tmp_path, RetrainResult)
    assert str(error.value) == (
        f"{tmp_path}/metrics.json: {name}: wanted accuracy, many, medium, few, balanced_accuracy, ece; delete the folder and "
        "run the command again"
    )


@pytest.mark.parametrize("change", [{"method": "a+b"}, {"std": None}, {"dataset": "[/]\x1b[2J"}])
def test_figures_of_a_run_that_only_look_odd_are_shown(whole, tmp_path, monkeypatch, change):
    shutil.copytree(whole, tmp_path / "odd")
    monkeypatch.chdir(tmp_path / "odd")
    file = next(Path().glob("runs/blobs/crt+stg-*/metrics.json"))
    document = json.loads(file.read_text())
    del document["checksum"]  # as an earlier version leaves it
    if "std" in change:
        change = {"std": dict.fromkeys(document["std"]), "seeds": [0, 1]}
    file.write_text(json.dumps(document | change))
    assert command(monkeypatch, (*RETRAIN, "-q")) == 0


def command(patch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> int:
    """The exit code of a command in this process; an error that `cli.main` does not catch goes on."""
    cache = next(path for path in Path("stores").iterdir() if (path / "manifest.json").exists())
    patch.setattr(sys, "argv", ["coattail", *(str(cache) if one == "stores/*" else one for one in arguments)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def mutations(content: bytes, seed: int) -> Iterator[bytes]:
    yield from TEXTS
    draw = random.Random(seed)
    for _ in range(DRAWS):
        flipped = bytearray(content)
        # The start of a safetensors file is its header; the rest of these files is short.
        place = draw.randrange(min(len(content), 4096))
        flipped[place] ^= 1 << draw.randrange(8)
        yield bytes(flipped)
        yield content[: draw.randrange(len(content))]


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (RETRAIN, "runs/blobs/stg-*/metrics.json"),
        (RETRAIN, "runs/blobs/stg-*/stg.safetensors"),
        (RETRAIN, "runs/blobs/crt+stg-*/metrics.json"),
        (RETRAIN, "runs/blobs/crt+stg-*/classifier.safetensors"),
        (EXTRACT, "runs/own/backbone-*/metrics.json"),
        (EXTRACT, "runs/own/backbone-*/backbone.safetensors"),
        (EXTRACT, "runs/own/backbone-*/config.toml"),
        (EXTRACT, "stores/.staging/*/plan.json"),
        (EXTRACT, "stores/.staging/*/journal-0.jsonl"),
        (EXTRACT, "stores/.staging/*/data/features.zarr/train/view-01/zarr.json"),
        (EXTRACT, "stores/.staging/*/data/features.zarr/train/clean/c/0/0"),
    ],
)
def test_a_mutated_file(whole, tmp_path, monkeypatch, capsys, arguments, pattern):
    place = next(whole.glob(pattern)).relative_to(whole)
    content = (whole / place).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for number, mutated in enumerate(mutations(content, seed=len(pattern))):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        (folder / place).write_bytes(mutated)
        monkeypatch.chdir(folder)
        capsys.readouterr()
        code = command(monkeypatch, (*arguments, "-q"))
        err = capsys.readouterr().err
        assert code in (0, 1), (mutated[:80], err)
        assert len(err.splitlines()) == code, (mutated[:80], err)
        assert err.startswith("coattail: ") or not code
        shutil.rmtree(folder)
