"""TensorBoard beside a training: what is written, and that its failures stop nothing."""

import sys

import pytest

from pipeline.stage1_backbone import stage1
from pipeline.training.tracking import EVENTS, TENSORBOARD, Tracker, tracker
from tests.support.small_runs import small


class _Kept:
    """A writer that keeps what it is given, until it fails."""

    def __init__(self, fails_at=None):
        self.kept, self.fails_at = [], fails_at

    def add_scalar(self, tag, scalar_value, global_step):
        if global_step == self.fails_at:
            raise OSError(28, "No space left on device")
        self.kept.append((tag, scalar_value, global_step))

    def flush(self):
        pass


def test_each_number_of_an_epoch_is_written_under_its_name():
    writer = _Kept()
    Tracker(writer).epoch({"epoch": 3, "loss": 0.5, "seconds": 2.0})
    assert writer.kept == [("stage1/loss", 0.5, 3), ("stage1/seconds", 2.0, 3)]


def test_after_a_failure_it_says_so_once_and_is_silent(capsys):
    writer = _Kept(fails_at=2)
    tracked = Tracker(writer)
    for epoch in (1, 2, 3):
        tracked.epoch({"epoch": epoch, "loss": 0.5})
    assert writer.kept == [("stage1/loss", 0.5, 1)]
    assert capsys.readouterr().err.count("No space left on device; training goes on without it") == 1


def test_a_training_goes_on_without_the_package(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(TENSORBOARD, "1")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as where it is not installed
    stage1(small(epochs=1), tmp_path)
    assert len(list(tmp_path.glob("*/*/backbone.safetensors"))) == 1
    assert "wants tensorboard, the extra coattail[tensorboard]; training goes on without it" in capsys.readouterr().err


def test_events_lie_in_the_run_folder(monkeypatch, tmp_path):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv(TENSORBOARD, "1")
    tracker(tmp_path).epoch({"epoch": 1, "loss": 0.25})
    assert [file.name.startswith("events.out.tfevents") for file in (tmp_path / EVENTS).iterdir()] == [True]


@pytest.mark.parametrize("value", ["", "0"])
def test_nothing_is_written_unasked(monkeypatch, tmp_path, value):
    monkeypatch.setenv(TENSORBOARD, value)
    tracker(tmp_path).epoch({"epoch": 1, "loss": 0.25})
    assert list(tmp_path.iterdir()) == []
