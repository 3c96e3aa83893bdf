"""Files of a run folder that are damaged, or made to do harm: one line with file and remedy, before anything is taken over."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import small
from torch import Tensor

from pipeline.artefacts import tensors as checkpoint
from pipeline.backbones import build_for
from pipeline.errors import DataError, LineageError
from pipeline.images.dataset import load
from pipeline.stage1_backbone import BackboneRun
from pipeline.stage1_extract import extract
from pipeline.training.checkpoint import CHECKPOINT, Point
from pipeline.training.epochs import train_epochs
from pipeline.training.steps import Done, Training

REMEDY = "delete the file to begin this run again"
LINE = {"epoch": 1, "loss": 2.0, "seconds": 1.0, "images_per_second": 62.0}
NOT_ON_THE_WAY = "point: wanted one on the way through 3 epochs, found"
CONV = "model.backbone.conv1.weight"

Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def split():
    return load(small()).splits["train"]


def training(split, **stage1: Any) -> Training:
    settings = small(**stage1)
    return Training(build_for(settings, 10), split, settings)


def resume(folder: Path, run: Training, tensors: Tensors, **metadata: str) -> str:
    """What going on from a checkpoint of these tensors and metadata says."""
    own = {"key": "k", "point": point(), "scale": json.dumps(run.scale()), "digest": checkpoint.digest(tensors)}
    saved = {**own, **metadata}
    checkpoint.save(folder / CHECKPOINT, tensors, {name: text for name, text in saved.items() if text != "missing"})
    before = {name: tensor.clone() for name, tensor in run.state().items()}
    with pytest.raises(DataError) as error:
        train_epochs(run, folder, "k")
    after = run.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    return str(error.value)


def point(history: object = (LINE,), seconds: object = 0.0, **done: object) -> str:
    return json.dumps(
        asdict(Point([], Done(1), 0.0)) | {"history": history, "seconds": seconds, "done": {"epoch": 1, **done}}
    )


def test_a_flipped_bit_that_leaves_a_weight_finite(tmp_path, split):
    run = training(split)
    tensors = run.state()
    digest = checkpoint.digest(tensors)
    tensors[CONV].view(torch.int32)[0, 0, 0, 0] ^= 1
    assert torch.isfinite(tensors[CONV]).all()
    said = resume(tmp_path, run, tensors, digest=digest)
    assert said == f"{tmp_path / CHECKPOINT}: its tensors are not the ones that were saved; {REMEDY}"


def without(name: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.pop(name)


def given(name: str, tensor: Tensor) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without(CONV), f"{CONV}: wanted float32 [16, 3, 3, 3], found nothing"),
        (given(CONV, torch.zeros(3)), f"{CONV}: wanted float32 [16, 3, 3, 3], found float32 [3]"),
        (given(CONV, torch.zeros(16, 3, 3, 3).long()), f"{CONV}: wanted float32 [16, 3, 3, 3], found int64 [16, 3, 3, 3]"),
        (given(CONV, torch.full((16, 3, 3, 3), torch.nan)), f"{CONV}: wanted finite numbers, found others"),
        (given("model.x\ny", torch.zeros(1)), r"model.x\ny: not wanted there"),
        (given("momentum.classifier.bias", torch.zeros(11)), "momentum.classifier.bias: wanted float32 [10], found float32 [11]"),
        (given("momentum.backbone.x", torch.zeros(1)), "momentum.backbone.x: not wanted there"),
        (given("average.count", torch.tensor(1)), "average.count: not wanted there"),
    ],
    ids=["missing", "shape", "type", "not finite", "surplus", "momentum's shape", "momentum of nothing", "no average"],
)  # fmt: skip
def test_tensors_of_a_checkpoint(tmp_path, split, change, problem):
    run = training(split)
    tensors = run.state()
    change(tensors)
    assert resume(tmp_path, run, tensors) == f"{tmp_path}/{CHECKPOINT}: {problem}; {REMEDY}"


def test_an_average_in_a_checkpoint(tmp_path, split):
    run = training(split, averaging="ema")
    tensors = run.state()
    assert resume(tmp_path, run, tensors).endswith(f": average.count: wanted int64 [], found nothing; {REMEDY}")
    tensors["average.count"] = torch.tensor(-1)
    assert "average.of.backbone.conv1.weight: wanted float32 [16, 3, 3, 3], found nothing" in resume(
        tmp_path, run, tensors
    )
    tensors |= {
        f"average.of.{name}": tensor for name, tensor in run.model.state_dict().items() if tensor.is_floating_point()
    }
    assert resume(tmp_path, run, tensors).endswith(f": average.count: wanted 1 or more, found -1; {REMEDY}")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        *((text, "point: not as it is saved (") for text in ("missing", "", "x", "[]", "null", "[" * 100_000)),
        (point(epoch="1"), "point: not as it is saved ("),
        (point(epoch=1.5), "point: not as it is saved ("),
        (point(history=[{**LINE, "loss": "x"}]), "point: not as it is saved ("),
        (point(epoch=-1), f"{NOT_ON_THE_WAY} -1 and 0 of 0 steps, 0 images; "),
        (point(epoch=4), f"{NOT_ON_THE_WAY} 4 and 0 of 0 steps, 0 images; "),
        (point(epoch=10**30), f"{NOT_ON_THE_WAY} {10**30} and 0 of 0 steps"),
        (point(step=9, steps=4, images=62), f"{NOT_ON_THE_WAY} 1 and 9 of 4 steps, 62 images; "),
        (point(step=-1, steps=4, images=16), f"{NOT_ON_THE_WAY} 1 and -1 of 4 steps, 16 images; "),
        (point(step=1, steps=9, images=16), f"{NOT_ON_THE_WAY} 1 and 1 of 9 steps, 16 images; "),
        (point(step=1, steps=4, images=-5), f"{NOT_ON_THE_WAY} 1 and 1 of 4 steps, -5 images; "),
        (point(history=[]), "point: wanted a line for each of 1 epochs, found 0, or others; "),
        (point(history=[{**LINE, "epoch": 2}]), "point: wanted a line for each of 1 epochs, found 1, or others; "),
        (point(history=[{"epoch": 1}]), "point: wanted a line for each of 1 epochs, found 1, or others; "),
        (point(seconds=float("nan")), "point: wanted finite numbers, found others; "),
        (point(step=1, steps=4, images=16, loss_sum=float("inf")), "point: wanted finite numbers, found others; "),
    ],
)  # fmt: skip
def test_where_a_checkpoint_says_it_stands(tmp_path, split, text, problem):
    run = training(split)
    found = resume(tmp_path, run, run.state(), point=text)
    assert found.startswith(f"{tmp_path}/{CHECKPOINT}: {problem}")
    assert found.endswith(f"; {REMEDY}")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("amp", "text", "problem"),
    [
        ("off", "missing", "scale: not as it is saved ("),
        ("off", '{"scale": 1.0}', "scale: wanted none, found 1 numbers; "),
        ("fp16", "{}", "scale: wanted scale, growth_factor, backoff_factor, growth_interval, _growth_tracker, found 0 numbers; "),
        ("fp16", {"scale": float("nan")}, "scale: wanted a finite one above 0, found nan after 0.0 steps; "),
        ("fp16", {"scale": 0.0}, "scale: wanted a finite one above 0, found 0.0 after 0.0 steps; "),
        ("fp16", {"_growth_tracker": 2**40}, f"scale: wanted a finite one above 0, found 65536.0 after {2.0**40} steps; "),
    ],
)  # fmt: skip
def test_the_loss_scale_of_a_checkpoint(tmp_path, split, amp, text, problem):
    run = training(split, amp=amp)
    text = text if isinstance(text, str) else json.dumps(run.scale() | text)
    assert resume(tmp_path, run, run.state(), scale=text).startswith(f"{tmp_path}/{CHECKPOINT}: {problem}")


def backbone(folder: Path, change: Callable[[Tensors], object], name: str = "resnet20") -> BackboneRun:
    tensors = build_for(small(), 10).state_dict()
    change(tensors)
    folder.mkdir()
    classes = json.dumps([str(digit) for digit in range(10)])
    checkpoint.save(folder / "backbone.safetensors", tensors, {"backbone": name, "classes": classes, "key": "k"})
    return BackboneRun(folder, checkpoint.digest(tensors), {})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (without("backbone.conv1.weight"), "backbone.conv1.weight: wanted float32 [16, 3, 3, 3], found nothing"),
        (without("classifier.bias"), "classifier.bias: wanted float32 [10], found nothing"),
        (given("classifier.scale", torch.tensor(1.0)), "classifier.norm: wanted float32 [], found nothing"),
        (given("classifier.weight", torch.zeros(9, 64)), "classifier.weight: wanted float32 [10, 64], found float32 [9, 64]"),
        (given("classifier.bias", torch.full((10,), torch.inf)), "classifier.bias: wanted finite numbers, found others"),
        (given("x", torch.zeros(1)), "x: not wanted there"),
    ],
)  # fmt: skip
def test_tensors_of_a_backbone(tmp_path, change, problem):
    run = backbone(tmp_path / "run", change)
    with pytest.raises(DataError) as error:
        extract(small(), run, tmp_path / "stores")
    assert str(error.value) == (f"{run.folder}/backbone.safetensors: {problem}; delete {run.folder} to train it again")


def test_tensors_of_a_backbone_of_another_name(tmp_path):
    run = backbone(tmp_path / "run", without("backbone.conv1.weight"), "resnet32")
    with pytest.raises(LineageError) as error:
        extract(small(), run, tmp_path / "stores")
    assert str(error.value) == (
        f"backbone {run.folder}: tensors of resnet32 do not fit resnet20 (backbone.conv1.weight: wanted float32 "
        "[16, 3, 3, 3], found nothing); set backbone.name to what was trained"
    )


def test_the_settings_of_a_run_that_cannot_be_read(tmp_path):
    run = backbone(tmp_path / "run", lambda tensors: None)
    (run.folder / "config.toml").write_text("[[[")
    with pytest.raises(DataError) as error:
        extract(small(), run, tmp_path / "stores")
    start = f"backbone {run.folder}: config file {run.folder}/config.toml: not valid TOML: "
    assert str(error.value).startswith(start)
    assert str(error.value).endswith(f"; delete {run.folder} to train it again")


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.uint16])
def test_tensors_of_a_type_that_no_module_has(tmp_path, dtype):
    checkpoint.save(tmp_path / "x.safetensors", {"a\nb": torch.zeros(8, dtype=torch.uint8).view(dtype)})
    with pytest.raises(DataError) as error:
        checkpoint.load(tmp_path / "x.safetensors")
    found = f"{str(dtype).removeprefix('torch.')} [{8 // dtype.itemsize}]"
    assert str(error.value) == (
        rf"{tmp_path}/x.safetensors: a\nb: wanted a type that modules have, such as float32, found {found}; save it as float32"
    )
