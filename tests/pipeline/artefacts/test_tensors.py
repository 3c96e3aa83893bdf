"""Tensors on disk: round trip, digest, modes, and nothing half-written."""

import os
import stat

import pytest
import torch

from pipeline.artefacts import folders
from pipeline.artefacts import tensors as checkpoint
from pipeline.errors import DataError

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(7), "half": torch.ones(2, dtype=torch.bfloat16)}


def test_round_trip(tmp_path):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, TENSORS, {"stage": "test"})
    tensors, metadata = checkpoint.load(path)
    assert metadata == {"stage": "test"}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [file.name for file in tmp_path.iterdir()] == ["x.safetensors"]


def test_channels_last_and_shared_tensors_are_stored_as_their_values(tmp_path):
    weight = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "x.safetensors", {"weight": weight, "same": weight})
    tensors, _ = checkpoint.load(tmp_path / "x.safetensors")
    assert torch.equal(tensors["weight"], weight)
    assert torch.equal(tensors["same"], weight)


def test_mode_is_what_the_umask_leaves(tmp_path):
    before = os.umask(0o027)
    try:
        checkpoint.save(tmp_path / "x.safetensors", TENSORS)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.safetensors").stat().st_mode) == 0o640


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    checkpoint.save(path, TENSORS)

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"other": torch.zeros(1)})
    assert checkpoint.load(path)[0].keys() == TENSORS.keys()
    assert len(list(tmp_path.iterdir())) == 1


def test_digest_is_of_names_types_shapes_and_values_not_of_order_or_memory_format():
    digest = checkpoint.digest(TENSORS)
    assert checkpoint.digest(dict(reversed(TENSORS.items()))) == digest
    image = torch.arange(24.0).view(1, 2, 3, 4)
    assert checkpoint.digest({"x": image.contiguous(memory_format=torch.channels_last)}) == checkpoint.digest(
        {"x": image}
    )
    for changed in (
        {**TENSORS, "a": torch.tensor(8)},
        {**TENSORS, "b": TENSORS["b"].view(3, 2)},
        {**TENSORS, "a": torch.tensor(7, dtype=torch.int32)},
        {("c" if name == "b" else name): tensor for name, tensor in TENSORS.items()},
    ):
        assert checkpoint.digest(changed) != digest


def test_missing_file(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path, tmp_path / "file"):
        for name, read in (("x.safetensors", checkpoint.load), ("metrics.json", folders.read_json)):
            with pytest.raises(DataError) as error:
                read(folder / name)
            assert str(error.value) == (
                f"{folder}/{name}: no such file; the run is not finished, or the folder is not a run folder"
            )


def test_a_file_of_something_else(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read as safetensors \("):
        checkpoint.load(tmp_path / "x.safetensors")


def test_a_header_that_would_cost_too_much(tmp_path):
    path = tmp_path / "backbone.safetensors"
    with path.open("wb") as file:
        file.write((99 << 20).to_bytes(8, "little"))
        file.truncate((99 << 20) + 100)
    with pytest.raises(DataError) as caught:
        checkpoint.load(path)
    assert str(caught.value) == (
        f"{path}: wanted a header of at most {32 << 20} bytes, found {99 << 20}; save fewer tensors in it"
    )
