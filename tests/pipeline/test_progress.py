"""Lines of progress where there is no terminal, times to go, and what an interrupted command says."""

import time

import pytest

from pipeline import progress
from pipeline.progress import Track, interrupted_text, on_interrupt, to_go, track


@pytest.fixture(autouse=True)
def _interrupted(monkeypatch):
    monkeypatch.setattr(progress, "_interrupted", progress.INTERRUPTED)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s to go"), (1.4, "1 s to go"), (99, "99 s to go"), (100, "2 min to go"), (5000, "83 min to go"),
     (9000, "2.5 h to go")],
)  # fmt: skip
def test_time_to_go(seconds, text):
    assert to_go(seconds) == text


def running(total: int, done: int, seconds: float, detail: str = "") -> Track:
    bar = Track(total, "images", "training resnet20", in_lines=True, done=done, started=time.monotonic() - seconds)
    bar.detail(detail)
    return bar


@pytest.mark.parametrize(
    ("bar", "line"),
    [
        ((6000, 1000, 10), "training resnet20: 1,000/6,000 images, 100 images/s, 50 s to go"),
        ((6000, 1000, 10, "loss 1.5"), "training resnet20: 1,000/6,000 images, 100 images/s, loss 1.5, 50 s to go"),
        ((6000, 6000, 60), "training resnet20: 6,000/6,000 images, 100 images/s"),
        ((0, 5, 10), "training resnet20: 5 images, 0.5 images/s"),
        ((6000, 0, 10), "training resnet20: 0/6,000 images, 0 images/s"),
    ],
)
def test_a_line(bar, line):
    assert running(*bar).line() == line


def test_lines_come_where_there_is_no_terminal_and_not_too_often(monkeypatch, capsys):
    with track(10, "copy train") as bar:
        bar.advance(5)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "EVERY", 0.0)
    with track(10, "copy train") as bar:
        bar.advance(5)
        bar.advance(5)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("copy train: 5/10 rows, ")
    assert first.endswith(" s to go")
    assert second.startswith("copy train: 10/10 rows, ")
    for quiet in ({"shown": False}, {}):
        with track(10, "copy train", **quiet) as bar:
            bar.advance(5)
            progress.set_verbosity(0)
        assert capsys.readouterr().err == ""


def test_a_terminal_shows_the_time_to_go_also_where_the_total_changes(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with track(300, "logistic", "steps") as bar:
        bar.started -= 40
        for total in (100, 90, 80):
            bar.total = total
            bar.advance(10)
        bar._bar.refresh()
        shown = capsys.readouterr().err
    assert "30/80" in shown
    assert "67 s to go" in shown


def test_what_an_interrupted_command_says():
    assert interrupted_text() == "interrupted; what was finished is kept, the same command goes on from there"
    with on_interrupt("a") as say:
        assert interrupted_text() == "interrupted; a"
        say("b")
        with on_interrupt("c"):
            assert interrupted_text() == "interrupted; c"
        assert interrupted_text() == "interrupted; b"
        with pytest.raises(ValueError, match="x"), on_interrupt("d"):
            raise ValueError("x")
        assert interrupted_text() == "interrupted; b"
    assert interrupted_text() == progress.INTERRUPTED
    with pytest.raises(KeyboardInterrupt), on_interrupt("outer"), on_interrupt("inner"):
        raise KeyboardInterrupt
    assert interrupted_text() == "interrupted; inner"


def test_a_note_of_short_steps_is_not_a_line_each_without_a_terminal(monkeypatch, capsys):
    def said(epochs: int) -> list[str]:
        with track(epochs, "training resnet20", "images") as bar:
            for epoch in range(1, epochs + 1):
                bar.note(f"epoch {epoch}", always=epoch in (1, epochs))
        return capsys.readouterr().err.split("\n")[:-1]

    assert said(9) == ["epoch 1", "epoch 9"]
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert len(said(9)) == 9
    monkeypatch.setattr(progress, "EVERY", 30.0)
    monkeypatch.setattr(progress, "_verbosity", 2)
    assert len(said(9)) == 9
    monkeypatch.setattr(progress, "_verbosity", 0)
    assert said(9) == []
