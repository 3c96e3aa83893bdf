"""What `cli.main` makes of a failure that no code of ours raises: one line, exit code 1, and nothing hidden."""

import sys

import pytest
import torch

import cli
import pipeline.settings.load

NO_ROOM = "can't allocate memory: you tried to allocate 9 bytes"


def call(monkeypatch, capsys, error: BaseException) -> tuple[object, str]:
    def fails(*_):
        raise error

    monkeypatch.setattr(pipeline.settings.load, "load", fails)
    monkeypatch.setattr(sys, "argv", ["coattail", "config", "show"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"), "CUDA out of memory. Tried to allocate 2 GiB"),
        (RuntimeError(f"DefaultCPUAllocator: {NO_ROOM}"), f"DefaultCPUAllocator: {NO_ROOM}"),
        (MemoryError(), "nothing is left"),
    ],
)  # fmt: skip
def test_too_little_memory_is_one_line_with_what_to_lower(monkeypatch, capsys, error, reason):
    assert call(monkeypatch, capsys, error) == (
        1,
        f"coattail: out of memory ({reason}); raise stage1.accumulate or lower stage1.batch_size; elsewhere lower "
        "extract.batch_size, retrain.seeds or ram_limit\n",
    )


def test_an_error_of_our_own_making_is_not_hidden(monkeypatch, capsys):
    with pytest.raises(RuntimeError, match="a bug"):
        call(monkeypatch, capsys, RuntimeError("a bug"))


@pytest.mark.parametrize("place", ["ftp://x", "s3://", "s3://team/../x"])
@pytest.mark.parametrize("command", [["cache", "ls"], ["cache", "pull"], ["retrain", "--cache"]])
def test_a_text_that_can_be_no_place_is_a_command_called_wrongly(monkeypatch, capsys, tmp_path, command, place):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["coattail", *command, place, *(["0123"] if command == ["cache", "pull"] else [])])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    err = capsys.readouterr().err
    assert (stopped.value.code, len(err.splitlines())) == (2, 1), err
    assert err.startswith(f"coattail: {place.partition(':')[0]}:")
